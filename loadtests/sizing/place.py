"""Was a run measured on the machine and the model that are sized? Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from loadtests.results.schema import machine
from loadtests.sizing.measured import Run

NOT_KNOWN: Final = "not known"
HASH: Final = "sha256:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What is sized, as far as it can be told now."""

    hardware: Mapping[str, str]
    """As a run's report has it; empty: nobody could look."""
    model: str
    """By the name that the configuration has for it."""
    digest: str
    """Of the model in the engine, or how it begins; empty: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A run of something else, or of what may be something else."""

    what: str
    """What was measured: the subject of a sentence."""
    where: str
    """Where that was, and how it is known; it goes on after "measured"."""


def elsewhere(run: Run, here: Here) -> Elsewhere | None:
    """What a run measured where that is not known to be what is sized; None where all that is known is the same."""
    told = run.result.environment
    there, now = (_known(one) for one in (told.hardware, here.hardware))
    if not there:
        what = f"The deployment at {told.target}"
        return Elsewhere(what=what, where=f"at {told.target}, of which the run knows no more than the address")
    both = sorted(there.keys() & now.keys())
    if not both:
        why = "what this one is made of could not be asked (does docker answer?)"
        return Elsewhere(what="The machine that was measured", where=f"on a machine that may be another one: {why}")
    if differ := [f"{name} {there[name]} there, {now[name]} here" for name in both if there[name] != now[name]]:
        other = "nother machine than this stack's"
        return Elsewhere(what=f"A{other}", where=f"on a{other}: {'; '.join(differ)}")
    asked = {model(told.configuration.get("models", ""), row["model"]) for row in run.rows}
    was, digest = told.configuration.get(f"digest {here.model}", ""), here.digest.removeprefix(HASH)
    if asked - {here.model}:
        why = f"the run asked {', '.join(sorted(asked))}, and {here.model} is sized"
    elif re.fullmatch(f"({HASH})?[0-9a-f]+", was) and digest and not was.removeprefix(HASH).startswith(digest):
        why = f"{here.model} was {was.removeprefix(HASH)[:12]} then and is {digest[:12]} now"
    else:
        return None
    return Elsewhere(what="This box with another model", where=f"with another model: {why}")


def model(served: str, asked: str) -> str:
    """The configured name of a model that was asked by it or an alias; `served` is as `facts.configuration` has it."""
    for name, aliases in re.findall(r"([^\s,()]+)(?: \(([^)]*)\))?", served):
        if asked in {name, *aliases.split(", ")}:
            return str(name)
    return asked


def _known(hardware: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in machine(hardware).items() if value != NOT_KNOWN}
