"""A run that is kept, and later runs held against it (`regression`).

`python -m loadtests.compare.baseline` keeps a run for its hardware, model and load; `make load GATE=1` compares.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from loadtests.analysis.gates import Gate, Side
from loadtests.compare.regression import COMPARISONS, ERROR, MATTERS, CannotCompare, Sample, compare
from loadtests.records import Outcome, Record
from loadtests.results import build, store
from loadtests.results.schema import Environment, Result, inside, machine
from loadtests.results.store import CannotRead, CannotWrite

HERE: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = HERE / "baselines"
VERSION: Final = 1
KEPT: Final = 2000
"""Requests in the file; of longer runs every second one, every third one, …"""
SLICES: Final = 60
LEAST: Final = 100
"""Fewer answered requests tell nothing."""
SHAPES: Final = ("hold", "replay")


class Baseline(BaseModel):
    """A run that later ones are held against."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baseline_version: Literal[1]
    fingerprint: str
    title: str
    started: str
    requests: int
    """How many were answered; the sample may hold fewer."""
    environment: Environment
    sample: Sample


@dataclass(frozen=True, slots=True)
class Row:
    """What a comparison needs of one request; seconds."""

    session: int
    model: str
    start: float
    ttft: float | None
    tpot: float | None
    e2e: float
    tokens: float
    ok: bool


def rows(text: str, name: str = "requests.csv") -> list[Row]:
    """The requests of a `requests.csv`. Raises CannotCompare with the line that is wrong."""
    try:
        return [
            Row(
                session=int(line["session"]), model=line["model"], start=float(line["intended_s"]),
                ttft=_seconds(line["ttft_ms"]), tpot=_seconds(line["tpot_ms"]), e2e=float(line["e2e_ms"]) / 1000,
                tokens=float(line["output_tokens"] or line["pieces"]), ok=line["outcome"] == Outcome.OK,
            )
            for line in store.rows(text, name)
        ]  # fmt: skip
    except CannotRead as error:
        raise CannotCompare(str(error)) from None


def _seconds(cell: str) -> float | None:
    return float(cell) / 1000 if cell else None


def sample(listed: Sequence[Row], window: tuple[float, float]) -> Sample:
    """The requests of the measured part of a run (`Level.window`). Raises CannotCompare for too few answers."""
    measured = [one for one in listed if one.ok and inside(window, one.start)]
    if len(measured) < LEAST:
        raise CannotCompare(f"{len(measured)} answers behind the warm-up are too few: a comparison takes {LEAST}")
    kept = measured[:: math.ceil(len(measured) / KEPT)]
    numbers = {session: k for k, session in enumerate(dict.fromkeys(one.session for one in kept))}
    return Sample(
        sessions=[numbers[one.session] for one in kept],
        ttft=[_short(one.ttft) for one in kept], tpot=[_short(one.tpot) for one in kept],
        e2e=[_short(one.e2e) for one in kept], rates=_rates(listed, *window),
    )  # fmt: skip


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _rates(listed: Sequence[Row], low: float, high: float) -> list[float]:
    """Tokens a second in slices; an answer's tokens are spread evenly from its first to its end."""
    edges = np.linspace(low, high, SLICES + 1)
    total = np.zeros(SLICES)
    for one in listed:
        first, last = one.start + (one.ttft or 0.0), one.start + max(one.e2e, (one.ttft or 0.0) + 1e-6)
        part = np.clip(np.minimum(edges[1:], last) - np.maximum(edges[:-1], first), 0, None)
        total += one.tokens * part / (last - first)
    return [float(f"{value:.5g}") for value in total / (edges[1] - edges[0])]


# --- which baseline --------------------------------------------------------------------------------------------------


def fingerprint(result: Result, models: Sequence[str]) -> str:
    """What has to be alike for two runs to be compared: hardware, the engine's kind, models and load.

    Versions and settings are not in it: whether those make it slower is what a comparison is for.
    """
    told = result.environment
    hardware = machine(told.hardware)
    load = {name: told.configuration.get(name, "") for name in ("PROFILE", "UNIT", "SHAPE", "LOADS", "ARRIVALS")}
    load |= {name: told.configuration.get(name, "") for name in ("REPLAY", "SPEED")}
    content = {name: value for name, value in told.configuration.items() if name.startswith(("models", "digest "))}
    engine = told.versions.get("engine", "").partition(" ")[0]
    # Where nothing is known of the machine, its address stands for it.
    where = hardware or {"target": told.target}
    whole = [sorted(one.items()) for one in (where, load, content)]
    return hashlib.sha256(json.dumps([*whole, engine, sorted(set(models))]).encode()).hexdigest()[:12]


def path(result: Result, mark: str, *, stack: str = "dev", folder: Path = FOLDER) -> Path:
    """Where the baseline of such runs is kept."""
    told = result.environment
    name = stack if told.hardware else re.sub(r"[^a-z0-9]+", "-", (urlsplit(told.target).hostname or "elsewhere"))
    return folder / f"{name}-{mark}.json"


def refuse(shape: str) -> None:
    """Raises CannotCompare for a run of several loads."""
    if shape not in SHAPES:
        raise CannotCompare(f"a {shape} has many loads; a baseline is of one that is held: USERS=8, RATE=2 or REPLAY=…")


def make(result: Result, csv_text: str, name: str = "requests.csv") -> Baseline:
    """The baseline that a run is; `name` is that of its table.

    Raises CannotCompare for a run that may not be believed, is not of one load, or has rows that are none.
    """
    refuse(result.environment.configuration.get("SHAPE", "hold"))
    if not result.complete or result.verdict == "none":
        raise CannotCompare(f"this run may not be believed ({result.stopped or result.reason})")
    listed = rows(csv_text, name)
    return Baseline(
        baseline_version=VERSION, fingerprint=fingerprint(result, [one.model for one in listed]), title=result.title,
        started=result.started, requests=sum(one.ok for one in listed), environment=result.environment,
        sample=sample(listed, result.whole.window),
    )  # fmt: skip


def to_json(baseline: Baseline) -> str:
    """The same run gives the same bytes, a list in a line."""
    told = baseline.model_dump(mode="json")
    told["sample"] = {name: json.dumps(values) for name, values in told["sample"].items()}
    return re.sub(r'"(\[[^"]*\])"', r"\1", json.dumps(told, indent=1, sort_keys=True)) + "\n"


def read(file: Path) -> Baseline:
    """A baseline from its file. Raises CannotCompare that says how to make one."""
    again = "run the load without GATE=1, look at its report, then `make baseline` keeps that run"
    try:
        return Baseline.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CannotCompare(f"no baseline for this hardware, model and load ({file.name}): {again}") from None
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise CannotCompare(f"{file} is no baseline of this version: delete it, then {again}") from error


# --- the gate --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a run is beside its baseline."""

    passed: bool | None
    """None: it could not be compared."""
    said: str
    """A sentence."""
    gates: tuple[Gate, ...]


def gate(result: Result, records: Sequence[Record], *, stack: str = "dev", folder: Path = FOLDER) -> Judgement:
    """Holds a run against the baseline of its kind. Without one nothing is passed, and it is said how to make one."""
    try:
        now = make(result, store.to_csv(records))
        then = read(path(result, now.fingerprint, stack=stack, folder=folder))
        found = compare(now.sample, then.sample)
    except CannotCompare as error:
        return Judgement(passed=None, said=f"not compared with a baseline: {error}", gates=(_none(str(error)),))
    limit = f"worse by more than {MATTERS:.0%}, with p below {ERROR / COMPARISONS:g}, is a regression"
    gates = tuple(
        Gate(
            name=f"no regression: {one.name}", side=Side.SERVER, passed=None if one.unknown else not one.worse,
            value=str(one), limit=limit, why=f"held against the run of {then.started}",
        )
        for one in found
    )  # fmt: skip
    worse = [f"{one.name} {one.change:+.1%}" for one in found if one.worse]
    since = changed(then.environment, result.environment)
    told = f" (different since: {'; '.join(since)})" if since else " (no version or setting is known to differ)"
    if worse:
        said = f"worse than the run of {then.started}: {', '.join(worse)}"
    elif unknown := [f"{one.name}: {one.unknown}" for one in found if one.unknown]:
        return Judgement(passed=None, said=f"not compared with a baseline: {'; '.join(unknown)}", gates=gates)
    else:
        said = f"as good as {then.started}"
    return Judgement(passed=not worse, said=said + told, gates=gates)


def _none(why: str) -> Gate:
    return Gate(
        name="no regression", side=Side.SERVER, passed=None, value=why, limit="a baseline of this hardware and load",
        why="GATE=1 was asked for",
    )  # fmt: skip


def changed(then: Environment, now: Environment) -> list[str]:
    """Versions and settings that differ."""
    old, new = (
        {**one.versions, **{name: value for name, value in one.configuration.items() if name != "FOR"}}
        for one in (then, now)
    )
    return [
        f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def applied(result: Result, judgement: Judgement) -> Result:
    """The result with its comparison: a regression fails it, and what could not be compared is no pass."""
    verdict, reason = result.verdict, result.reason
    if judgement.passed is False:
        objectives = "the objectives held, but it is " if verdict == "pass" else f"{reason}; and it is "
        verdict, reason = "fail", objectives + judgement.said
    elif judgement.passed is None and verdict == "pass":
        verdict, reason = "none", judgement.said
    return result.model_copy(
        update={"gates": [*result.gates, *map(build.check, judgement.gates)], "verdict": verdict, "reason": reason}
    )


# --- make baseline ---------------------------------------------------------------------------------------------------


def folder(environment: Mapping[str, str]) -> Path:
    """Where baselines are kept: beside the load tests, or where BASELINES says."""
    return Path(environment.get("BASELINES") or FOLDER)


def newest(folder: Path) -> Path:
    """The folder of the newest run. Raises CannotCompare where there is none."""
    found = sorted(folder.glob("*/result.json"), key=lambda one: one.stat().st_mtime)
    if not found:
        raise CannotCompare(
            f"there is no run in {folder}: `make load USERS=8` makes one, or RUN=folder says where one is"
        )
    return found[-1].parent


def named(folder: Path) -> Path:
    """A run's folder. Raises CannotRead for one that is none."""
    if not (folder / store.NAME).is_file():
        raise CannotRead(f"RUN={folder}: {store.NONE}")
    return folder


def main(environment: Mapping[str, str]) -> int:
    """Keeps a run: the newest, or that of RUN. Exit status 2 for one that cannot be kept."""
    try:
        run = named(Path(environment["RUN"])) if environment.get("RUN") else newest(HERE / "out")
        result = store.read(run / store.NAME)
        table = run / "requests.csv"
        made = make(result, store.text(table), str(table))
        file = path(result, made.fingerprint, stack=environment.get("STACK") or "dev", folder=folder(environment))
        before = file.exists()
        store.write(file.parent, {file.name: to_json(made)})
    except (CannotCompare, CannotRead, CannotWrite, OSError) as error:
        print(f"nothing was kept: {error}", file=sys.stderr)
        return 2
    print(f"kept {run.name} ({made.requests:,} answers, {made.started}) as {file}" + (", anew" if before else ""))
    print("`make load GATE=1` with the same words holds a run against it; the file may be committed")
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
