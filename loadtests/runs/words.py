"""What a run is to do, from its words: USERS, RATE, FOR and so on, as `make load` takes them.

They come as environment variables with LOAD_ in front (never as arguments: those everybody on the machine can read).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from loadtests.analysis.metrics import Objectives
from loadtests.analysis.slo import PRESETS, usual
from loadtests.analysis.slo import parse as parse_objectives
from stack.config import units

T = TypeVar("T")
PREFIX: Final = "LOAD_"
WORDS: Final = (
    "PROFILE", "USERS", "RATE", "SEARCH", "RAMP", "FOR", "BUDGET", "SLO", "ARRIVALS", "REPLAY", "SPEED", "SEED",
    "MODEL", "PROCESSES", "OUT", "TIMEOUT", "GATE", "TAX",
)  # fmt: skip
OTHERS: Final = ("EMBEDDING_MODEL", "FACTS", "SERVER", "STEPS", "TAX_FILE", "CHAT_EMAIL", "CHAT_PASSWORD", "MIX")
"""Names with the same prefix that belong to others."""
MOST_USERS: Final = 100_000
MOST_RATE: Final = 100_000.0


class Shape(StrEnum):
    """How the load goes over time."""

    HOLD = "hold"
    """One load, held."""
    SWEEP = "sweep"
    """Several loads, one after the other."""
    RAMP = "ramp"
    """A load that grows."""
    REPLAY = "replay"
    """What was recorded, again."""
    SEARCH = "search"
    """The highest load that keeps the objectives."""


class Unit(StrEnum):
    """What a load is a number of."""

    USERS = "users"
    """People who wait for their answer, think, and ask again (a closed loop)."""
    RATE = "requests/s"
    """Requests that come whether the ones before are answered or not (an open loop)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A run as it was asked for. Durations in seconds."""

    shape: Shape = Shape.SEARCH
    unit: Unit = Unit.USERS
    profile: str = "chat"
    loads: tuple[float, ...] = ()
    """Growing; none for a search and a replay."""
    seconds: float = 120.0
    """Of a hold, of each level of a sweep, of a ramp."""
    budget: float = 900.0
    """Of a search."""
    slo: str = "people"
    objectives: Objectives = PRESETS["people"]
    arrivals: str = "poisson"
    replay: Path | None = None
    speed: float = 1.0
    seed: int = 1
    processes: int = 1
    timeout: float = 120.0
    """The longest that a request may take."""
    out: Path | None = None
    gate: bool = False
    tax: bool = False

    def said(self) -> dict[str, str]:
        """For the report: what the run was told, by word."""
        told = {
            "PROFILE": self.profile, "SLO": self.slo, "SHAPE": self.shape.value, "UNIT": self.unit.value,
            "PROCESSES": str(self.processes), "TIMEOUT": f"{self.timeout:g} s",
        }  # fmt: skip
        if self.loads:
            told["LOADS"] = ", ".join(f"{load:g}" for load in self.loads)
        if self.shape is Shape.SEARCH:
            told["BUDGET"] = f"{self.budget:g} s"
        elif self.shape is not Shape.REPLAY:
            told["FOR"] = f"{self.seconds:g} s"
        if self.unit is Unit.RATE and self.shape is not Shape.REPLAY:
            told["ARRIVALS"] = self.arrivals
        if self.replay is not None:
            told |= {"REPLAY": self.replay.name, "SPEED": f"{self.speed:g}"}
        return told


def parse(environment: Mapping[str, str]) -> Words:
    """The run that these variables ask for; empty ones count as not given.

    Raises:
        ValueError: a sentence for people: which word, its value, what is allowed.
    """
    given = {name: value for name in WORDS if (value := environment.get(PREFIX + name, "").strip())}
    _spelling(environment)
    shape, unit = _shape(given)
    profile = given.get("PROFILE", "chat")
    said = given.get("SLO", usual(profile))
    loads = _loads(given, unit) if unit.name in given else ()
    if shape is Shape.HOLD and len(loads) > 1:
        shape = Shape.SWEEP
    if shape is Shape.RAMP and len(loads) != 1:
        raise ValueError(f"RAMP=1 grows to one load, {unit.name} has {len(loads)}: write {unit.name}=16, for example")
    if (gate := _read(given, "GATE", False, _switch)) and shape not in {Shape.HOLD, Shape.REPLAY}:
        raise ValueError(
            "GATE=1 would do nothing here: a baseline is of one load that is held (USERS=8, RATE=2 or REPLAY=…), and "
            f"this is a {shape}"
        )
    return Words(
        shape=shape, unit=unit, profile=profile, loads=loads,
        seconds=_read(given, "FOR", 120.0, _duration), budget=_read(given, "BUDGET", 900.0, _duration),
        slo=said, objectives=_read({"SLO": said}, "SLO", PRESETS["people"], parse_objectives),
        arrivals=given.get("ARRIVALS", "poisson"),
        replay=Path(given["REPLAY"]) if "REPLAY" in given else None,
        speed=_read(given, "SPEED", 1.0, _number), seed=_read(given, "SEED", 1, _count),
        processes=_read(given, "PROCESSES", 1, _processes),
        timeout=_read(given, "TIMEOUT", 120.0, _duration), out=Path(given["OUT"]) if "OUT" in given else None,
        gate=gate, tax=_read(given, "TAX", False, _switch),
    )  # fmt: skip


def _spelling(environment: Mapping[str, str]) -> None:
    """A word that is nearly one of ours would change nothing, silently."""
    known = (*WORDS, *OTHERS)
    for name in sorted(one.removeprefix(PREFIX) for one in environment if one.startswith(PREFIX)):
        if name not in known and (near := difflib.get_close_matches(name, known, n=1, cutoff=0.75)):
            raise ValueError(f"{PREFIX}{name} is not known; did you mean {PREFIX}{near[0]}?")


def _shape(given: Mapping[str, str]) -> tuple[Shape, Unit]:
    """Raises ValueError for words that do not go together."""
    ways = [name for name in ("USERS", "RATE", "SEARCH", "REPLAY") if name in given]
    if len(ways) > 1:
        raise ValueError(
            f"{' and '.join(ways)} do not go together: USERS or RATE holds a load (or several: 1,2,4), SEARCH looks "
            "for the highest, REPLAY repeats a log"
        )
    way = ways[0] if ways else "SEARCH"
    ramp = _read(given, "RAMP", False, _switch)
    shape = Shape[way] if way in {"SEARCH", "REPLAY"} else Shape.RAMP if ramp else Shape.HOLD
    unit = Unit.RATE if way in {"RATE", "REPLAY"} else Unit.USERS
    if shape is Shape.SEARCH and (what := given.get("SEARCH", "users")) not in {"users", "rate"}:
        raise ValueError(f"SEARCH={what!r}: allowed are users (people who think between their questions) and rate")
    if shape is Shape.SEARCH and given.get("SEARCH") == "rate":
        unit = Unit.RATE
    lost = {
        "RAMP": ramp and shape is not Shape.RAMP, "ARRIVALS": unit is not Unit.RATE or shape is Shape.REPLAY,
        "SPEED": shape is not Shape.REPLAY, "BUDGET": shape is not Shape.SEARCH,
        "FOR": shape in {Shape.REPLAY, Shape.SEARCH},
    }  # fmt: skip
    why = {
        "RAMP": "it needs USERS=… or RATE=…", "ARRIVALS": "it is for RATE=… and SEARCH=rate",
        "SPEED": "it is for REPLAY=…", "BUDGET": "it is for SEARCH; how long a load is held says FOR=…",
        "FOR": "a replay lasts as long as its log (SPEED=2 halves it); a search as long as BUDGET says",
    }  # fmt: skip
    for name, useless in lost.items():
        if useless and name in given:
            raise ValueError(f"{name}={given[name]} would do nothing here: {why[name]}")
    return shape, unit


def _loads(given: Mapping[str, str], unit: Unit) -> tuple[float, ...]:
    name = unit.name
    allowed = (
        f"a whole number from 1 to {MOST_USERS:,}" if unit is Unit.USERS else
        f"requests a second, above 0, at most {MOST_RATE:,.0f}"
    )  # fmt: skip
    found = []
    for part in given[name].split(","):
        try:
            load = float(int(part) if unit is Unit.USERS else float(part))
        except ValueError:
            load = 0.0
        if not 0 < load <= (MOST_USERS if unit is Unit.USERS else MOST_RATE):
            raise ValueError(f"{name}={given[name]}: {part.strip()!r} is none; {allowed}, or several: 1,2,4")
        found.append(load)
    return tuple(sorted(set(found)))


def _read(given: Mapping[str, str], name: str, usual: T, reader: Callable[[str], T]) -> T:
    if name not in given:
        return usual
    try:
        return reader(given[name])
    except ValueError as error:
        raise ValueError(f"{name}={given[name]}: {error}") from None


def _duration(text: str) -> float:
    seconds = units.seconds(text)
    if not 1 <= seconds <= 7 * 86400:
        raise ValueError("from 1s to 7d")
    return seconds


def _number(text: str) -> float:
    value = float(text) if text.replace(".", "", 1).isdigit() else 0.0
    if not 0.001 <= value <= 1000:
        raise ValueError("a number from 0.001 to 1000; 2 is twice as fast")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise ValueError("a whole number from 0 to 999999999")
    return int(text)


def _processes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise ValueError("how many processes make the load: a whole number from 1 to 256, at most one for each core")
    return int(text)


def _switch(text: str) -> bool:
    if text not in {"0", "1"}:
        raise ValueError("1 for yes, 0 for no")
    return text == "1"
