"""Ollama's settings: environment, health, GPUs. Pure."""

from __future__ import annotations

from typing import Final

from stack.config.model import OWN_ENGINE, Accelerator, Engine
from stack.config.units import seconds_text
from stack.shape import Gpus, Health

NAME: Final = OWN_ENGINE
PORT: Final = 11434
MODELS_FOLDER: Final = "/models"
HOME: Final = "/tmp"  # Ollama makes a key pair in its home at each start; nothing there needs keeping

HEALTH: Final = Health(test=["CMD", "ollama", "list"])


def environment(engine: Engine, instance: int = 0) -> dict[str, str]:
    """The environment of one of the engine's instances (names: `ollama serve --help`)."""
    settings = {
        "HOME": HOME,
        "OLLAMA_HOST": f"0.0.0.0:{PORT}",
        "OLLAMA_MODELS": MODELS_FOLDER,
        "OLLAMA_NUM_PARALLEL": str(engine.parallel),
        "OLLAMA_MAX_LOADED_MODELS": str(engine.max_loaded_models),
        # As long as all that the gateway lets through: it never overflows, so who has to wait too long hears it from
        # the gateway, with a time to come back.
        "OLLAMA_MAX_QUEUE": str(engine.slots),
        "OLLAMA_KEEP_ALIVE": seconds_text(engine.keep_alive),
        "OLLAMA_LOAD_TIMEOUT": seconds_text(engine.load_timeout),
        "OLLAMA_CONTEXT_LENGTH": str(engine.context_length),
        "OLLAMA_KV_CACHE_TYPE": str(engine.kv_cache),
        "OLLAMA_FLASH_ATTENTION": "1" if engine.flash_attention else "0",
        # Pruning at start would throw away the halves of interrupted pulls.
        "OLLAMA_NOPRUNE": "1",
        "OLLAMA_NO_CLOUD": "1",
    }
    if engine.accelerator is Accelerator.AMD and engine.gpus:
        settings["ROCR_VISIBLE_DEVICES"] = ",".join(share(engine, instance))
    return settings


def share(engine: Engine, instance: int) -> tuple[str, ...]:
    """The cards of one instance: neighbours in the list, as many for each; none listed are all for the only one."""
    each = len(engine.gpus) // engine.instances
    return engine.gpus[instance * each : (instance + 1) * each]


def gpus(engine: Engine, instance: int = 0) -> Gpus:
    """What the container of one instance gets of the host's cards."""
    match engine.accelerator:
        case Accelerator.NVIDIA:
            return Gpus(request=f"device={','.join(share(engine, instance))}" if engine.gpus else "all")
        case Accelerator.AMD:
            return Gpus(devices=("/dev/dri", "/dev/kfd"), groups=[str(group) for group in engine.device_groups])
        case Accelerator.CPU:
            return Gpus()
