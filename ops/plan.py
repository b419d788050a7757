"""`make plan`: whether the models of a stack fit its hardware, what their memory is made of, and what would fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from ops import model_file, paths, record, settings, speeds
from ops.docker import DockerCli
from ops.errors import OpsError
from ops.preflight import fit as fits
from ops.pulumi import PROJECT
from ops.request import Request
from stack.capacity.facts import Known
from stack.capacity.fit import Fit, Placed, Verdict, gib
from stack.config.model import Platform

COLUMNS: Final = ("model", "slots x context", "weights", "cache", "state", "work", "overhead", "total", "of", "verdict")


def plan(request: Request) -> int:
    """Prints the plan as a table or as JSON. Exit status 1 when a model does not fit."""
    file = paths.ROOT / f"Pulumi.{request.stack}.yaml"
    platform = settings.platform(file)
    if not platform.uses_engine and not request.gguf:
        print(f"stack {request.stack}: all models are served by engines elsewhere, of which nothing is planned here")
        return 0
    at = fits.host(platform)
    if at is None:
        raise OpsError(
            f"{file.name} does not say which cards the engine has\nfix: write them under engine, for example "
            f"{fits.EXAMPLE}; docs/configuration.md has the form"
        )
    known = _one(request) if request.gguf else models(platform, request.stack, DockerCli())
    found = fits.planned(platform, at, known)
    quick = speeds.outlooks(request.stack, platform, found, known)
    unknown = [name for name, one in known.items() if one is None]
    if request.json:
        speed = {name: speeds.document(one) for name, one in quick.items()}
        print(json.dumps(document(request.stack, found, unknown, platform) | {"speed": speed}, indent=2))
    else:
        print(text(request.stack, found, unknown, platform))
        for name, one in quick.items():
            print(speeds.text(name, one))
    return int(any(one.verdict is Verdict.NO for one in found.models))


def _one(request: Request) -> dict[str, Known | None]:
    """The model of a file, under the file's name, or one that an Ollama elsewhere has."""
    shape = model_file.shape(request.gguf, request.model)
    return {shape.name: fits.from_file(shape)}


def models(platform: Platform, stack: str, docker: DockerCli) -> dict[str, Known | None]:
    """What is known of the stack's models: by the running engine's files where it has them, else by their names."""
    if record.load(stack).source != "official":
        return fits.models(platform)
    return fits.in_engine(platform, docker, stack, PROJECT)


def text(stack: str, found: Fit, unknown: Sequence[str], platform: Platform) -> str:
    """The plan as a table with what to know below it."""
    where = f"{found.host.name}, {gib(found.host.budget)}"
    times = f", {platform.engine.instances} times" if platform.engine.instances > 1 else ""
    rows = [COLUMNS, *(_row(one) for one in found.models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [f"stack {stack} on {where}{times}", ""]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [""] if found.models else []
    if found.loaded > 1:
        lines.append(f"the {found.loaded} largest, loaded together: {gib(found.sum)}, {found.together}")
    for one in found.models:
        lines += [f"{one.model}: {note}" for note in one.notes]
        about = "guessed from its name, " if one.guessed else ""
        lines.append(f"{one.model}: {about}within {one.band:.0%}; source: {one.source}")
        lines += [f"{one.model}: would fit: {advice}" for advice in one.advice]
    lines += [f"{name}: not known; `make plan GGUF=<its file>` reads what it is made of" for name in unknown]
    return "\n".join(lines)


def _row(one: Placed) -> tuple[str, ...]:
    need = one.need
    work = need.compute + need.projector
    sizes = (need.weights, need.cache, need.state, work, need.overhead, need.total, one.budget)
    return (one.model, f"{one.run.slots} x {one.run.context}", *map(gib, sizes), str(one.verdict))


def document(stack: str, found: Fit, unknown: Sequence[str], platform: Platform) -> dict[str, Any]:
    """The plan for programs; sizes in bytes."""
    models = [
        {
            "name": one.model,
            "verdict": str(one.verdict),
            "slots": one.run.slots,
            "context": one.run.context,
            "cards": one.cards,
            "bytes": {**asdict(one.need), "total": one.need.total, "budget": one.budget},
            "band": one.band,
            "guessed": one.guessed,
            "source": one.source,
            "notes": list(one.notes),
            "wouldFit": list(one.advice),
        }
        for one in found.models
    ]
    return {
        "version": 1,
        "stack": stack,
        "host": {"name": found.host.name, "memory": list(found.host.memory), "instances": platform.engine.instances},
        "models": models,
        "together": {"models": found.loaded, "bytes": found.sum, "verdict": str(found.together)},
        "unknown": list(unknown),
    }
