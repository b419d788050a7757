"""The models as the engines have them, beside what the state says: a volume can be emptied by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ops import volumes
from ops.docker import DockerCli, DockerError
from ops.progress import Say
from ops.pulumi import MODEL_SET, Pulumi, outputs

LIMIT: Final = 10  # seconds for the engine to list its models
ABSENT: Final = "not in the engine: run `make up`"


def pulled(deployment: Mapping[str, Any]) -> dict[str, str]:
    """Name (with its tag) and digest of each model, as the last pull verified them."""
    urn = (outputs(deployment).get(MODEL_SET) or {}).get("urn")
    for resource in deployment.get("resources") or ():
        if resource.get("urn") == urn:
            try:
                found = json.loads((resource.get("outputs") or {}).get("stdout") or "[]")
                return {str(model["name"]): str(model["digest"]) for model in found}
            except (ValueError, TypeError, KeyError):
                return {}
    return {}


def tagged(name: str) -> str:
    """The name as the engine lists it."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def digests(docker: DockerCli, engines: Iterable[str]) -> dict[str, str] | None:
    """Name and how its digest begins, as engines list it: the first that answers, since they share; None: none does."""
    for engine in engines:
        try:
            done = docker.attempt(["exec", engine, "ollama", "list"], limit=LIMIT)
        except DockerError:
            continue
        if not done.code:
            rows = [line.split() for line in done.out.splitlines()[1:] if line.strip()]
            return {tagged(row[0]): "".join(row[1:2]) for row in rows}
    return None


def table(docker: DockerCli, deployment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, digest) of each model of the stack; in place of the digest of one that is gone: what to do."""
    model_set = outputs(deployment).get(MODEL_SET) or {}
    last = pulled(deployment)
    names = dict.fromkeys([*(model_set.get("models") or ()), *last])
    there = digests(docker, model_set.get("engines") or ())
    return [
        (name, ABSENT if there is not None and tagged(name) not in there else last.get(tagged(name), ""))
        for name in names
    ]


def replacements(pulumi: Pulumi, deployment: Mapping[str, Any], say: Say) -> list[str]:
    """`--replace` for the models' pull when the engines lack one of them, or their volume is gone. Raises OpsError."""
    model_set = outputs(deployment).get(MODEL_SET) or {}
    urn = model_set.get("urn")
    if not urn or urn not in {resource.get("urn") for resource in deployment.get("resources") or ()}:
        return []
    there = digests(pulumi.tools.docker, model_set.get("engines") or ())
    volume = model_set.get("volume")
    if volume and volume not in volumes.there(pulumi):
        say("models: their volume is gone; pulling them again")
    elif there is not None and (gone := [name for name in model_set.get("models") or () if tagged(name) not in there]):
        say(f"models: {', '.join(gone)} not in the engine any more; pulling again")
    else:
        return []
    return ["--replace", str(urn)]
