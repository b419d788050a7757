"""How wrong the planner is about memory and speed, on published measurements: `make bench-planner`.

Prints every target with what was reached, the worst rows, the simple planners beside, and one JSON line last.
Exit status 1 when a target is missed. Method: docs/planner.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import mean
from typing import Final

from stack.capacity import facts, fits, memory, naive, naive_speed, published, roofline, speed
from stack.capacity.calibrate import Run, calibrate
from stack.capacity.published import Measured
from stack.capacity.roofline import Constants
from stack.capacity.shape import Shape
from tests.support.published import COMPUTE_ROWS, KV_ROWS, error, logged

GDDR: Final = "cuda-gddr"
KINDS: Final = sorted({row.card.kind for row in published.measurements("decode")})


@dataclass(frozen=True, slots=True)
class Miss:
    """A measured row and what was said of it, tokens a second."""

    row: Measured
    said: float

    @property
    def error(self) -> float:
        """Relative to what was measured; above 0 when too much was promised."""
        return self.said / self.row.rate - 1

    def __str__(self) -> str:
        row = self.row
        where = f"{row.device}, {row.model}, {row.test or 'batch'}, depth {row.depth:.0f}, {row.batch} at once"
        return f"{self.error:+.1%}  said {self.said:.1f}, measured {row.rate:.1f}: {where} ({row.source})"


@dataclass(frozen=True, slots=True)
class Target:
    """One promise, and whether it is kept."""

    name: str
    most: float
    misses: Sequence[Miss]

    @property
    def error(self) -> float:
        """The mean of the absolute errors."""
        return mape(self.misses)

    @property
    def met(self) -> bool:
        """Whether it is kept; without rows it is not."""
        return bool(self.misses) and self.error <= self.most


def mape(misses: Sequence[Miss]) -> float:
    """Mean absolute relative error; 0 without rows."""
    return mean(abs(miss.error) for miss in misses) if misses else 0.0


def worst(misses: Iterable[Miss], count: int = 3) -> list[Miss]:
    """Those furthest off."""
    return sorted(misses, key=lambda miss: -abs(miss.error))[:count]


def uncalibrated(rows: Iterable[Measured]) -> list[Miss]:
    """Decode, with the constants of the kind of card."""
    return [Miss(row, speed.decode(row.work, row.card, row.depth).value) for row in rows]


def left_out(kind: str) -> list[Miss]:
    """Decode, each source predicted by constants fitted to all the others of its kind."""
    rows = published.recent("decode", kind)
    found = []
    for group in {row.group for row in rows}:
        others = [row for row in rows if row.group != group]
        if others:
            known = fits.fit(others)
            own = [row for row in rows if row.group == group]
            found += [Miss(row, 1 / roofline.seconds(row.work, row.card, known, row.depth)) for row in own]
    return found


def machines(kinds: Sequence[str]) -> list[list[Measured]]:
    """Decode rows by who measured what machine with which build; of every age, since a calibration knows the build."""
    found: dict[tuple[str, str], list[Measured]] = {}
    for row in published.measurements("decode"):
        if row.card.kind in kinds:
            found.setdefault((row.group, row.build), []).append(row)
    return list(found.values())


def start(one: Measured, *, own: bool = False, age: bool = True) -> Constants:
    """Where a calibration of this machine starts: what the fitted half tells of its kind of card and age of build.

    Who calibrates knows the engine's build; without `age` it starts from builds since 2025. The machine's own rows are
    left out, unless `own`. Where nothing is left (one machine is alone in its kind), it is what cards with GDDR reach.
    """
    old = one.old and age
    seen = [row for row in published.measurements("decode") if row.old is old and not row.held_out]
    near = [row for row in seen if row.card.kind == one.card.kind and (own or row.group != one.group)]
    return fits.fit(near or [row for row in seen if row.card.kind == GDDR])


def calibrated(kinds: Sequence[str], runs: int, *, same_model: bool, own: bool = False, age: bool = True) -> list[Miss]:
    """Decode after `runs` measured runs: every other row of the machine, for every choice of runs.

    `own` and `age` say where the machine starts from (`start`).
    """
    found = []
    for rows in machines(kinds):
        usual = start(rows[0], own=own, age=age)
        for chosen in combinations(rows, runs):
            models = {row.model for row in chosen}
            if len(models) < runs:
                continue
            made = calibrate(chosen[0].card, [_run(row) for row in chosen], usual=usual)
            for row in rows:
                other_depth = all(row.depth != one.depth for one in chosen if one.model == row.model)
                if (row.model in models) is same_model and (not same_model or other_depth):
                    found.append(Miss(row, made.decode(row.model, row.work, row.depth).value))
    return found


def _run(row: Measured) -> Run:
    return Run(model=row.model, load=row.work, depth=row.depth, rate=row.rate)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the planner and the simple ones say of published allocations."""

    caches_off: int
    """Rows of caches and states that are not what the log says, to its two digits of a MiB."""
    caches: int
    buffers: float
    """Mean absolute error of work buffers with a cache of 16 bits."""
    worst_buffer: float
    """Of all work buffers, whatever the cache."""
    ollama: float
    """Mean absolute error of a model's caches together by Ollama's own formula."""
    simple: Mapping[str, float]
    """Simple planner -> its mean absolute error of weights and caches together, of models whose file's size is known.

    Ours is off by nothing there: weights are the file, and caches are what the log says.
    """
    known: int
    """So many of them."""

    @property
    def met(self) -> bool:
        """Every cache exact; buffers within a tenth on average and none off by more than a fifth."""
        return not self.caches_off and self.buffers <= 0.10 and self.worst_buffer <= 0.20


def allocations() -> Memory:
    """The published rows of data/kv_rows.csv and data/compute_rows.csv."""
    off = 0
    logs: dict[tuple[str, ...], list[tuple[Shape, memory.Run, float]]] = {}
    for row in KV_ROWS:
        shape, run = logged(row)
        said = (memory.state(shape, run) if row["kind"] == "state" else memory.cache(shape, run)) / memory.MIB
        off += abs(said - float(row["logged_mib"])) > 0.006
        if row["kind"] == "cache":
            plain = replace(shape, width=shape.caches[0].key, heads=1)
            log = logs.setdefault(tuple(row[key] for key in ("model", "context", "slots", "cache", "source")), [])
            log.append((plain, run, float(row["logged_mib"]) * memory.MIB))
    sizes = {log: facts.model(log[0]) for log in logs}
    whole = {log: one.shape.size for log, one in sizes.items() if one is not None and not one.guessed}
    return Memory(
        caches_off=off,
        caches=len(KV_ROWS),
        buffers=mean(abs(error(row)) for row in COMPUTE_ROWS if row["cache"] == "f16"),
        worst_buffer=max(abs(error(row)) for row in COMPUTE_ROWS),
        ollama=mean(_off(naive.ollama, log, 0) for log in logs.values()),
        simple={name: mean(_off(rule, logs[log], size) for log, size in whole.items())
                for name, rule in naive.PLANNERS.items()},
        known=len(whole),
    )  # fmt: skip


def _off(rule: Callable[[Shape, memory.Run], int], log: Sequence[tuple[Shape, memory.Run, float]], size: int) -> float:
    """How far a rule is off from these caches of one run and the `size` bytes of its weights, relative."""
    said = sum(rule(replace(shape, size=0 if index else size), run) for index, (shape, run, _) in enumerate(log))
    return abs(said / (size + sum(real for *_, real in log)) - 1)


def main() -> int:
    """Print it all."""
    found = allocations()
    print(
        f"{'met' if found.met else 'MISSED':7}memory: {found.caches - found.caches_off} of {found.caches} caches and "
        f"states as the log says to the MiB; work buffers {found.buffers:.1%} off on average (at most 10%), the worst "
        f"{found.worst_buffer:.1%} (at most 20%)"
    )
    held_out = [row for row in published.recent("decode") if row.held_out]
    gddr = [row for row in held_out if row.card.kind == GDDR]
    beyond = [Miss(row, value) for row, value in fits.extrapolated()]
    after_one = calibrated([GDDR], 1, same_model=False)
    targets = [
        Target("decode, NVIDIA cards with GDDR, not calibrated, held-out sources", 0.10, uncalibrated(gddr)),
        Target("decode after one run, the same model at other depths", 0.05, calibrated(KINDS, 1, same_model=True)),
        Target("decode after one run, other models on the same GDDR card", 0.05, after_one),
        Target("many answers at once, up to twice what was measured", 0.20, beyond),
    ]
    for target in targets:
        verdict = "met" if target.met else "MISSED"
        print(f"{verdict:7}{target.error:6.1%} (at most {target.most:.0%}, {len(target.misses)} rows)  {target.name}")
        for miss in worst(target.misses):
            print(f"               {miss}")
    beside = {
        "decode after one run, other models, GDDR, builds since 2025": [one for one in after_one if not one.row.old],
        "decode after one run, other models, GDDR, builds before 2025": [one for one in after_one if one.row.old],
        "decode after one run, other models, GDDR, held-out sources": [one for one in after_one if one.row.held_out],
        "the same of all, starting from constants that the machine's own rows helped to fit": calibrated(
            [GDDR], 1, same_model=False, own=True
        ),
        "the same of all, starting from constants of builds since 2025 only": calibrated(
            [GDDR], 1, same_model=False, age=False
        ),
        "decode after two runs of other models, GDDR": calibrated([GDDR], 2, same_model=False),
        "many answers at once, no batch of that machine measured, held-out sources": [
            Miss(row, value) for row, value in fits.unseen()
        ],
        "prompts, held-out sources": [
            Miss(row, speed.prefill(row.work, row.card, row.depth * 2).value)
            for row in published.recent("prefill")
            if row.held_out
        ],
        "decode, builds before 2025, not fitted": uncalibrated(
            row for row in published.measurements("decode") if row.old and row.card.kind == GDDR
        ),
    }
    print("\nWithout a target")
    for name, misses in beside.items():
        print(f"       {mape(misses):6.1%} ({len(misses)} rows)  {name}")
        for miss in worst(misses, 1):
            print(f"               {miss}")
    print("\nBy kind of card: constants, held-out error, leave-one-source-out error and its worst row")
    kinds = {}
    for kind in KINDS:
        known, out = fits.fitted(kind), left_out(kind)
        mine = uncalibrated(row for row in held_out if row.card.kind == kind)
        kinds[kind] = {"held_out": _rounded(mine), "rows": len(mine), "left_out": _rounded(out)}
        print(
            f"       {kind:13} efficiency {known.efficiency:.3f}, {known.layer * 1e6:5.1f} us a layer, "
            f"{known.mixture * 1e6:4.1f} more with experts; "
            f"{_shown(mine)} ({len(mine)}), {_shown(out)} ({len(out)})"
        )
        for miss in worst(out, 1):
            print(f"               {miss}")
    print("\nSimple planners on the same rows")
    simple = {name: mape([Miss(row, rule(row)) for row in gddr]) for name, rule in naive_speed.DECODE.items()}
    alone = {(row.group, row.model, row.depth): row.rate for row in published.recent("batch") if row.batch == 1}
    same = [(miss.row, alone[key]) for miss in beyond if (key := _key(miss.row)) in alone]
    simple |= {name: mape([Miss(row, rule(row, one)) for row, one in same]) for name, rule in naive_speed.BATCH.items()}
    for name, off in simple.items():
        print(f"       {off:6.1%}  {name}")
    print(f"       {found.ollama:6.1%}  Ollama's own formula, caches only")
    for name, off in found.simple.items():
        print(f"       {off:6.1%}  memory, {name}: weights and caches of {found.known} logged runs (ours 0.0%)")
    result = {
        "memory": {
            "caches_off": found.caches_off,
            "caches": found.caches,
            "buffers": round(found.buffers, 4),
            "worst_buffer": round(found.worst_buffer, 4),
            "naive": {name: round(off, 4) for name, off in found.simple.items()},
            "met": found.met,
        },
        "targets": {
            target.name: {"error": round(target.error, 4), "most": target.most, "met": target.met} for target in targets
        },
        "others": {name: round(mape(misses), 4) for name, misses in beside.items()},
        "kinds": kinds,
        "naive": {name: round(off, 4) for name, off in simple.items()},
        "rows": {table: len(published.measurements(table)) for table in ("decode", "prefill", "batch")},
    }
    print(json.dumps(result))
    return 0 if found.met and all(target.met for target in targets) else 1


def _shown(misses: Sequence[Miss]) -> str:
    return f"{mape(misses):6.1%}" if misses else "   n/a"


def _rounded(misses: Sequence[Miss]) -> float | None:
    return round(mape(misses), 4) if misses else None


def _key(row: Measured) -> tuple[str, str, float]:
    return row.group, row.model, row.depth


if __name__ == "__main__":
    sys.exit(main())
