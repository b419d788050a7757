"""Where it is read what a model is made of: a file here, on a server, in the running engine; an Ollama elsewhere.

Nothing but a file's header is fetched.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from ops.docker import DockerCli
from ops.errors import OpsError
from stack.capacity.gguf import Read, read_header
from stack.capacity.shape import Shape, from_header, from_show

LIMIT: Final = 30  # seconds for each part of a file
PIECE: Final = 16 << 20  # bytes asked of the engine's container at once: each time costs a process there
MODELS: Final = "/models"
WEIGHTS: Final = "application/vnd.ollama.image.model"
# $1 the file, $2 where to begin (from 1), $3 how much
PART: Final = 'tail -c "+$2" "$1" | head -c "$3" | base64 -w0'


def shape(place: str, model: str) -> Shape:
    """What `GGUF=` names: a file, or by its address alone an Ollama that has `model`.

    Raises OpsError, ShapeError or GgufError in words.
    """
    if re.fullmatch(r"https?://[^/?#\s@]+/?", place):
        return from_show(model, _shown(place.rstrip("/"), model))
    return from_header(place.rpartition("/")[2] or place, read_header(*reader(place)))


def _shown(ollama: str, model: str) -> dict[str, Any]:
    """What Ollama tells of a model, its tensors too; it has the file, and so nothing is downloaded."""
    import requests

    asked = f"GGUF={ollama} MODEL={model}"
    try:
        answer = requests.post(f"{ollama}/api/show", json={"model": model, "verbose": True}, timeout=LIMIT)
        told = answer.json()
    except requests.RequestException as trouble:
        raise OpsError(
            f"{asked}: {type(trouble).__name__}: {trouble}\n"
            "fix: give the address of an Ollama, http://host:11434, or a model's file"
        ) from None
    if answer.status_code != 200 or not isinstance(told, dict):
        why = str(told.get("error", "") if isinstance(told, dict) else "")[:200] or f"it answers {answer.status_code}"
        raise OpsError(f"{asked}: {why}\nfix: MODEL=… is the name of a model that this Ollama has")
    return told


def reader(place: str) -> tuple[Read, int | None]:
    """How a GGUF file is read, and its size: a local one, or by ranges over http. Raises OpsError in words.

    The size is None where a server does not tell it.
    """
    if place.startswith(("http://", "https://")):
        return _ranges(place)
    path = Path(place)
    if not path.is_file():
        raise OpsError(f"GGUF={place}: there is no such file\nfix: give a file's path or an https:// address")

    def part(offset: int, length: int) -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    return part, path.stat().st_size


def _ranges(url: str) -> tuple[Read, int | None]:
    import requests

    whole: int | None = None

    def part(offset: int, length: int) -> bytes:
        nonlocal whole
        wanted = {"Range": f"bytes={offset}-{offset + length - 1}"}
        try:
            with requests.get(url, headers=wanted, timeout=LIMIT, stream=True) as answer:
                if answer.status_code == 416:
                    return b""
                if answer.status_code != 206:
                    raise OpsError(
                        f"GGUF={url}: the server answers {answer.status_code} where a part of the file is asked for\n"
                        "fix: give an address that serves ranges (206), or download the file"
                    )
                total = answer.headers.get("Content-Range", "").rpartition("/")[2]
                whole = int(total) if total.isdigit() else None
                return _at_most(answer.iter_content(1 << 16), length)
        except requests.RequestException as trouble:
            raise OpsError(f"GGUF={url}: {type(trouble).__name__}: {trouble}") from None

    part(0, 1)
    return part, whole


def _at_most(chunks: Iterable[bytes], length: int) -> bytes:
    """Stops a server that sends more than was asked for."""
    kept = b""
    for chunk in chunks:
        kept += chunk
        if len(kept) >= length:
            break
    return kept[:length]


def of_engine(docker: DockerCli, container: str, name: str) -> tuple[Read, int] | None:
    """The file of a model in the engine's container, and its size; None when it does not run or lacks the model.

    Raises DockerError. What is read comes from a container, so the header's reader does not believe it either.
    """
    manifest = docker.attempt(["exec", container, "cat", f"{MODELS}/manifests/{_path(name)}"], limit=LIMIT)
    if manifest.code:
        return None
    try:
        layers = json.loads(manifest.out)["layers"]
        digest, size = next((str(one["digest"]), int(one["size"])) for one in layers if one["mediaType"] == WEIGHTS)
    except (ValueError, KeyError, TypeError, StopIteration):
        return None
    blob = f"{MODELS}/blobs/{digest.replace(':', '-')}"
    start, kept = 0, b""

    def part(offset: int, length: int) -> bytes:
        nonlocal start, kept
        if not start <= offset <= offset + length <= start + len(kept):
            wanted = ["exec", container, "sh", "-c", PART, "sh", blob, str(offset + 1), str(max(length, PIECE))]
            try:
                start, kept = offset, base64.b64decode(docker.run(wanted, limit=LIMIT), validate=True)
            except binascii.Error:
                start, kept = offset, b""
        return kept[offset - start : offset - start + length]

    return part, size


def _path(name: str) -> str:
    """Where Ollama keeps a model's manifest: registry, namespace, model and tag."""
    base, _, tag = name.partition(":")
    words = base.split("/")
    full = ["registry.ollama.ai", "library", *words][-3:] if len(words) < 3 else words
    return "/".join([*full, tag or "latest"])
