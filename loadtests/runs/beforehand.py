"""What is wrong with a run, as far as it can be told before there is anything to measure.

`make load` asks it before it deploys a key, the run itself before it asks its target: so a mistake costs no time.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from loadtests.analysis import slo
from loadtests.compare import baseline
from loadtests.runs import words
from loadtests.runs.probe import GROWS, PROBES
from loadtests.runs.words import Shape, Unit, Words
from loadtests.workload import arrivals, mix, profiles, replay
from loadtests.workload.arrivals import Arrivals
from loadtests.workload.profiles import Profile
from loadtests.workload.replay import Log

OUT: Final = Path(__file__).resolve().parents[1] / "out"
"""Where reports go, each to a folder of its own, when OUT does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A run that can begin, as far as its words go."""

    words: Words
    profile: Profile
    kinds: frozenset[str]
    """The scenarios that its sessions are of."""
    law: Arrivals
    log: Log | None

    @property
    def vectors(self) -> bool:
        """There are no answers in tokens."""
        return self.kinds <= mix.EMBEDDINGS


def check(environment: Mapping[str, str]) -> Wanted:
    """The run that these variables ask for: LOAD_*, and BASELINES.

    Raises:
        ValueError: a sentence for people: which word, its value, what is allowed.
    """
    said = words.parse(environment)
    if said.processes > (cores := os.cpu_count() or 1):
        raise ValueError(f"PROCESSES={said.processes}: this machine has {cores} cores; at most one for each")
    profile = profiles.chosen(said.profile)
    wanted = Wanted(
        words=said, profile=profile, kinds=frozenset(mix.kinds(profile, environment)),
        law=arrivals.parse(said.arrivals), log=replay.load(said.replay) if said.replay is not None else None,
    )  # fmt: skip
    if wanted.vectors:
        given = environment.get(f"{words.PREFIX}SLO", "").strip()
        wanted = replace(wanted, words=_timed(said, given))
    _refuse_endless(wanted.words)
    _refuse_short(wanted.words)
    if said.gate and not any((folder := baseline.folder(environment)).glob("*.json")):
        raise ValueError(
            f"GATE=1: there is no baseline in {folder} yet: run the load without GATE=1, look at its report, then "
            "`make baseline` keeps that run"
        )
    _refuse_unwritable(said.out or OUT)
    return wanted


def _timed(said: Words, given: str) -> Words:
    """With objectives that vectors can be held against: they have no tokens. Raises ValueError for others."""
    if not given:
        return replace(said, slo=slo.VECTORS, objectives=slo.preset(slo.VECTORS))
    if said.objectives.e2e is None:
        raise ValueError(
            f"SLO={given}: PROFILE={said.profile} asks for vectors, which have no tokens to wait for: allowed are "
            f"{slo.VECTORS} and e2e=seconds"
        )
    return said


def _refuse_endless(said: Words) -> None:
    """Raises ValueError for more requests than a schedule holds."""
    if said.unit is Unit.RATE and said.loads and (count := said.loads[-1] * said.seconds) > arrivals.MOST:
        raise ValueError(
            f"RATE={said.loads[-1]:g} FOR={said.seconds:g}s: {count:,.0f} requests, and one load has at most "
            f"{arrivals.MOST:,}"
        )


def _refuse_short(said: Words) -> None:
    """Raises ValueError for a search that has no time for one probe, however quick the target is."""
    least = GROWS * max(slo.limits(said.objectives).values(), default=0.0)
    if said.shape is Shape.SEARCH and said.budget < least:
        raise ValueError(
            f"BUDGET={said.budget:g}s: a probe takes {least:g} s with SLO={said.slo} ({GROWS} times its longest "
            f"objective), and a search about {PROBES} of them: write BUDGET={math.ceil(PROBES * least / 60)}m"
        )


def _refuse_unwritable(folder: Path) -> None:
    """Raises ValueError where no report could be written; leaves nothing behind."""
    fresh = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"OUT={folder}: no report can be written there ({error.strerror or error}): choose another folder"
        ) from None
    finally:
        for one in fresh:
            with suppress(OSError):
                one.rmdir()
