"""A load run from its words to its report: `python -m loadtests.run`, with LOAD_* and what `make env` prints.

Exit status: 0 the objectives held, 1 they did not or nothing can be concluded (it says which), 2 a word or the target
is wrong, 130 it was stopped by Ctrl-C (with a report of what there was).
"""

from __future__ import annotations

# First: the fleet imports locust, which patches the process for gevent.
from loadtests.fleet import Fleet  # isort: skip

import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import gevent

from loadtests import arrivals, gates, machine, ready, replay, results, target, tax, words, workload
from loadtests.course import Course, Outcome
from loadtests.gates import Server
from loadtests.loads import Closed, FleetError, Load, Open, Replay
from loadtests.progress import Progress
from loadtests.ready import NotReady
from loadtests.report import files
from loadtests.report import words as sentences
from loadtests.results import CannotWrite, Environment, Result
from loadtests.target import Target
from loadtests.words import Shape, Unit, Words

OUT: Final = Path(__file__).parent / "out"
CODES: Final = {"pass": 0, "fail": 1, "none": 1}
SIGNS: Final = {"pass": "PASS", "fail": "FAIL", "none": "NO VERDICT"}
USAGE: Final = 2
STOPPED: Final = 130
EMBEDDINGS: Final = "embed"


class Stop:
    """Ctrl-C: the first ends the load and leaves a report that says so, the second ends the program at once."""

    def __init__(self) -> None:
        self.why = ""
        for number, name in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "a request to end")):
            gevent.signal_handler(number, self._again, name)

    def __call__(self) -> bool:
        """Is the run to end?"""
        return bool(self.why)

    def _again(self, name: str) -> None:
        if self.why:
            _say("stopped at once; there is no report")
            os._exit(STOPPED)
        self.why = name
        _say(f"{name}: the load ends, the report of what there is follows; once more ends it at once")


def main(environment: Mapping[str, str]) -> int:
    """A whole run. The last line on standard output says where the report is."""
    try:
        wanted = words.parse(environment)
        where = target.from_environment(environment)
        profile = workload.chosen(wanted.profile)
        load, seconds = _shaped(wanted)
        source, facts = machine.server(environment), machine.facts(environment)
        tolled = tax.from_environment(environment)
        folder = _folder(wanted)
        _say(f"{where.url}: asking for its models, and for short answers")
        found = ready.check(where, embedding=profile.scenario == EMBEDDINGS, timeout=wanted.timeout)
    except (ValueError, NotReady, CannotWrite) as error:
        _say(str(error))
        return USAGE
    except KeyboardInterrupt:
        _say("stopped before anything was measured; there is no report")
        return STOPPED
    stop, progress = Stop(), Progress(sys.stderr)
    warm = machine.resident(where, where.embedding_model if profile.scenario == EMBEDDINGS else where.model)
    began, before = time.time(), _counted(source)
    try:
        with Fleet(where, profile, processes=wanted.processes, timeout=wanted.timeout) as fleet:
            outcome = Course(
                words=wanted, fleet=fleet, load=load, seconds=seconds, answer_s=found.answer_s,
                server=Server(warm=warm), stopped=stop, told=progress.told, said=progress.line,
            ).run()  # fmt: skip
    except FleetError as error:
        _say(str(error))
        return USAGE
    series = _series(source, began, time.time())
    outcome = reconciled(outcome, before, _counted(source, settled=True))
    result = results.build(
        outcome.records, wanted.objectives, _environment(wanted, where, facts), title=_title(wanted),
        started=datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"), checks=outcome.gates,
        levels=outcome.levels, series=series, found=outcome.found, stopped=stop.why, window=outcome.window,
        label=outcome.label, said=outcome.said,
    ).model_copy(update={"tax": tolled})  # fmt: skip
    return _written(result, outcome, folder)


def _shaped(wanted: Words) -> tuple[Callable[[float], Load], float]:
    """What a number of users, or a rate, is for the fleet; and how long it is held. Raises ValueError."""
    if wanted.replay is not None:
        log = replay.read(wanted.replay, wanted.speed)
        return lambda _: Replay(log), log[-1].at_s + 1
    if wanted.unit is Unit.USERS:
        return lambda users: Closed(round(users), wanted.shape is Shape.RAMP), wanted.seconds
    law = arrivals.parse(wanted.arrivals)
    return lambda rate: Open(replace(law, rate=rate), wanted.shape is Shape.RAMP), wanted.seconds


def _folder(wanted: Words) -> Path:
    """Where the report goes. Raises CannotWrite now, not after an hour."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{Path(wanted.profile).stem}"
    folder = wanted.out or OUT / name
    results.write(folder, {})
    return folder


def _counted(source: machine.Server, *, settled: bool = False) -> machine.Tokens | None:
    """The server's count; what it does not tell is not known, which its gate says."""
    try:
        return machine.counted(source, settled=settled)
    except ValueError as error:
        _say(str(error))
        return None


def reconciled(outcome: Outcome, before: machine.Tokens | None, after: machine.Tokens | None) -> Outcome:
    """With the gate of the tokens over the whole run, as the server counts them over the whole run."""
    between = after.since(before) if before is not None and after is not None else None
    if between is None:
        return outcome
    gate = gates.tokens(outcome.records, Server(output_tokens=between.output))
    return replace(outcome, gates=tuple(gate if one.name == gate.name else one for one in outcome.gates))


def _series(source: machine.Server, began: float, ended: float) -> list[results.Series]:
    try:
        return machine.ask(source, began, ended)
    except ValueError as error:
        _say(str(error))
        return []


def _environment(wanted: Words, where: Target, facts: Mapping[str, dict[str, str]]) -> Environment:
    here = {"load client": f"Python {platform.python_version()}, locust {version('locust')}"}
    return Environment(
        target=where.url, hardware=facts["hardware"], versions=here | facts["versions"],
        configuration=wanted.said() | facts["configuration"], seeds={"run": wanted.seed},
    )  # fmt: skip


def _title(wanted: Words) -> str:
    """What the run was, in a few words."""
    loads = ", ".join(f"{load:g}" for load in wanted.loads)
    what = {
        Shape.SEARCH: f"how many {wanted.unit.value}", Shape.REPLAY: "replay of a log",
        Shape.RAMP: f"growing to {loads} {wanted.unit.value}",
    }.get(wanted.shape, f"{loads} {wanted.unit.value}")  # fmt: skip
    return f"{wanted.profile}: {what}"


def _written(result: Result, outcome: Outcome, folder: Path) -> int:
    """Writes the report, says what is in it, and returns the exit status."""
    status = CODES[result.verdict] if result.complete else STOPPED
    print(f"{SIGNS[result.verdict]}  {sentences.headline(result)}")
    for gate in result.gates:
        if gate.word != "PASS":
            print(f"  gate {gate.name}: {gate.word}, {gate.value} (allowed: {gate.limit})")
    try:
        results.write(folder, files.render(result, outcome.records))
    except CannotWrite as error:
        _say(str(error))
        return status or CODES["none"]
    print(f"report: {folder / 'report.html'}")
    return status


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(os.environ))
