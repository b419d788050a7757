"""How much disk the parts take: estimates in GiB, unpacked, rounded up; the check says that they are estimates."""

from __future__ import annotations

import re
from typing import Final

from ops.bootstrap import extras
from stack import parts
from stack.config.model import Platform

# Rounded up from the releases named in stack/versions.py: an estimate that errs to the large side.
IMAGES: Final = {
    "base": 0.1,
    "gateway": 0.1,
    "gateway-builder": 1.5,
    "ollama": 5.0,
    "ollama-rocm": 9.0,
    "open-webui": 5.0,
    "chroma": 0.8,
    "service-base": 0.2,
    "prometheus": 0.4,
    "node-exporter": 0.1,
    "gpu-exporter": 0.2,
    "grafana": 0.8,
}
# Built from packages: the same services without what only GPUs or other features need.
MIRROR_IMAGES: Final = {"ollama": 0.5, "open-webui": 2.0, "chroma": 1.0}
STAND_IN: Final = 0.1
"""A generated stand-in model."""
MODELS: Final = {
    "all-minilm": 0.1,
    "nomic-embed-text": 0.3,
    "mxbai-embed-large": 0.7,
    "bge-m3": 1.2,
}
# Q4_K_M, what registries serve by default, takes 4.5 to 6 bits a weight; small models carry a large vocabulary.
_GIB_PER_BILLION: Final = 0.65
_VOCABULARY: Final = 0.2


def images_needed(platform: Platform) -> tuple[str, ...]:
    """The images of this configuration, by their names in stack/versions.py, and the gateway's, which is built."""
    return ("gateway", *parts.needed(platform), *extras(platform))


def image_gib(name: str, source: str) -> float:
    """What an image takes, by its name in stack/versions.py and the source of parts."""
    return MIRROR_IMAGES.get(name, IMAGES[name]) if source == "mirror" else IMAGES[name]


def model_gib(name: str) -> float | None:
    """What a model takes, from the table or from the weights in its tag (`8b`); None when neither tells."""
    base, _, tag = name.partition(":")
    if base.rsplit("/", 1)[-1] in MODELS:
        return MODELS[base.rsplit("/", 1)[-1]]
    count = re.search(r"(?:^|[-_.])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?:$|[-_.])", tag, re.IGNORECASE)
    if count is None:
        return None
    billions = int(count[1] or 1) * float(count[2]) / (1 if count[3].lower() == "b" else 1000)
    scale = 3.1 if re.search(r"f16|bf16|fp16", tag, re.IGNORECASE) else 1.7 if "q8" in tag.lower() else 1
    return billions * _GIB_PER_BILLION * scale + _VOCABULARY
