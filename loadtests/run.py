"""A load run from its words to its report: `python -m loadtests.run`, with LOAD_* and what `make env` prints.

Exit status: 0 the objectives held, 1 they did not or nothing can be concluded (it says which), 2 a word or the target
is wrong, 130 it was stopped by Ctrl-C (with a report of what there was).
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # while it loads, there is nothing that Ctrl-C would have to undo, or to say
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# First: the fleet imports locust, which patches the process for gevent.
from loadtests.generator.fleet import Fleet  # isort: skip

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import gevent

from loadtests import machine, target, users
from loadtests.analysis.gates import Server
from loadtests.compare import baseline, tax
from loadtests.generator.loads import Closed, FleetError, Load, Open, Replay
from loadtests.records import Record
from loadtests.report import files
from loadtests.report import words as sentences
from loadtests.results import build, store
from loadtests.results.schema import Environment, Result, Series, Tax
from loadtests.results.store import CannotWrite
from loadtests.runs import beforehand, course, ready
from loadtests.runs.course import Course, Outcome
from loadtests.runs.hold import label
from loadtests.runs.progress import Progress, say
from loadtests.runs.ready import NotReady, Ready
from loadtests.runs.words import MOST_USERS, Shape, Unit, Words
from loadtests.target import Target
from loadtests.users.accounts import Crew
from loadtests.users.base import CannotGoOn
from loadtests.workload import mix, profiles
from loadtests.workload.profiles import Profile

CODES: Final = {"pass": 0, "fail": 1, "none": 1}
USAGE: Final = 2
STOPPED: Final = 130


class Stop:
    """Ctrl-C: the first ends the load and leaves a report that says so, the second ends the program at once.

    `undo`: what is done even then; a third one does not wait for it.
    """

    def __init__(self) -> None:
        self.why = ""
        self.undo: Callable[[], None] = lambda: None
        self._at_once = False
        names = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "a request to end", signal.SIGHUP: "its terminal was closed"}
        for number, name in names.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                # Python does not know of gevent's handlers: the fleet would take Ctrl-C for its own to note.
                signal.signal(number, lambda _number, _frame: None)
                gevent.signal_handler(number, self._again, name)

    def __call__(self) -> bool:
        """Is the run to end?"""
        return bool(self.why)

    def _again(self, name: str) -> None:
        if self._at_once:
            os._exit(STOPPED)
        if self.why:
            self._at_once = True
            _say("stopped at once; there is no report")
            try:
                self.undo()
            finally:
                os._exit(STOPPED)
        self.why = name
        _say(f"{name}: the load ends, the report of what there is follows; once more ends it at once")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a run is to do, all of it checked."""

    words: Words
    target: Target
    profile: Profile
    embedding: bool
    """There are no answers in tokens."""
    retrieves: bool
    """Some sessions ask for vectors."""
    load: Callable[[float], Load]
    seconds: float
    server: machine.Server
    facts: Mapping[str, dict[str, str]]
    tax: Tax | None
    stack: str
    baselines: Path
    accounts: str = ""
    """Of the chat, which people sign in with; "" where nobody does."""

    @property
    def people(self) -> int:
        """The most there can be at one time. No number bounds a search, or a rate."""
        return round(max(self.words.loads)) if self.words.loads and self.words.unit is Unit.USERS else MOST_USERS

    @property
    def model(self) -> str:
        """Which one is asked."""
        return self.target.embedding_model if self.embedding else self.target.model


def asked(environment: Mapping[str, str]) -> Asked:
    """Reads everything there is to read. Raises ValueError: a sentence for people."""
    wanted = beforehand.check(environment)
    load, seconds = _shaped(wanted)
    return Asked(
        words=replace(wanted.words, profile=wanted.profile.name), target=_aimed(environment, wanted),
        profile=wanted.profile, embedding=wanted.vectors, retrieves=bool(wanted.kinds & mix.EMBEDDING),
        load=load, seconds=seconds,
        server=machine.server(environment), facts=machine.facts(environment), tax=tax.from_environment(environment),
        stack=environment.get("STACK") or "dev", baselines=baseline.folder(environment),
    )  # fmt: skip


def main(environment: Mapping[str, str]) -> int:
    """A whole run. The last line on standard output says where the report is."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        wanted = asked(environment)
        _say(f"{wanted.target.url}: asking for its models, and for short answers")
        found = ready.check(
            wanted.target, embedding=wanted.embedding, retrieves=wanted.retrieves, timeout=wanted.words.timeout
        )
        stop = Stop()
        with Crew(_say, stop) as crew:
            stop.undo = crew.remove
            signed = users.signed_in(
                wanted.profile, wanted.target, environment, crew, people=wanted.people, workers=wanted.words.processes
            )
            os.environ.update(signed)  # for all workers
            return _measured(_peopled(wanted, signed, crew.made), found, _folder(wanted.words), stop)
    except (ValueError, NotReady, FleetError, CannotWrite, CannotGoOn) as error:
        _say(f"error: {error}")
        return USAGE
    except KeyboardInterrupt:
        _say("stopped before anything was measured; there is no report")
        return STOPPED


def _peopled(wanted: Asked, signed: Mapping[str, str], made: int) -> Asked:
    """With what follows from people who sign in, and of whom as many have accounts that were made for them."""
    if not signed:
        return wanted
    if made:
        accounts = f"{made}, made for the run"
    else:
        accounts = "that of the sign-in, shared by all people"
        _say(f"ACCOUNTS: {accounts} (an administrator's sign-in would make each one of their own)")
    # What the chat asks for people is not counted as this key's.
    return replace(wanted, server=replace(wanted.server, metrics=()), accounts=accounts)


def _measured(wanted: Asked, found: Ready, folder: Path, stop: Stop) -> int:
    """Makes the load and writes the report. Raises FleetError where the load cannot be made."""
    # Two runs with the same seed have the same lengths and moments, but other words: the server may have kept those.
    nonce = time.time_ns() % 2**31
    profile = replace(wanted.profile, nonce=nonce, ruler=found.ruler or wanted.profile.ruler)
    warm = machine.resident(wanted.target, wanted.model)
    progress = Progress(sys.stderr)
    if found.ruler is None:
        progress.line("the server does not count prompts as tokens: a word is taken for one")
    if warning := profiles.warning(profile, wanted.facts["configuration"].get("engine.contextLength", "")):
        progress.line(warning)
    began, before = time.time(), _counted(wanted.server)
    with Fleet(wanted.target, profile, processes=wanted.words.processes, timeout=wanted.words.timeout) as fleet:
        outcome = Course(
            words=wanted.words, fleet=fleet, load=wanted.load, seconds=wanted.seconds,
            answer_s=found.answer_s(profile.output.mean),
            server=Server(warm=warm, shared_prefix=profile.shared_prefix), stopped=stop, told=progress.told,
            said=progress.line,
        ).run()  # fmt: skip
    series = _series(wanted.server, outcome.records)
    outcome = reconciled(outcome, before, _counted(wanted.server, settled=True))
    result = build.result(
        outcome.records, wanted.words.objectives, _environment(wanted, nonce), title=_title(wanted.words),
        started=datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"), checks=outcome.gates,
        levels=outcome.levels, series=series, found=outcome.found, stopped=stop.why or outcome.trouble,
        window=outcome.window, label=outcome.label, said=outcome.said,
    ).model_copy(update={"tax": wanted.tax})  # fmt: skip
    if wanted.words.gate:
        held = baseline.gate(result, outcome.records, stack=wanted.stack, folder=wanted.baselines)
        result = baseline.applied(result, held)
    return _written(result, outcome, folder, STOPPED if stop.why else CODES[result.verdict])


def _aimed(environment: Mapping[str, str], wanted: beforehand.Wanted) -> Target:
    """The target; where there are vectors alone, MODEL is what makes them. Raises ValueError."""
    found = target.from_environment(environment)
    if wanted.vectors and environment.get("LOAD_MODEL") and not environment.get("LOAD_EMBEDDING_MODEL"):
        return replace(found, embedding_model=found.model)
    return found


def _shaped(wanted: beforehand.Wanted) -> tuple[Callable[[float], Load], float]:
    """What a number of users, or a rate, is for the fleet; and how long it is held. Raises ValueError."""
    said = wanted.words
    if wanted.log is not None:
        if wanted.log.said:
            _say(f"{said.replay}: {wanted.log.said}")
        log = wanted.log.at(said.speed)
        return lambda _: Replay(log), log[-1].at_s + 1
    if said.unit is Unit.USERS:
        return lambda users: Closed(round(users), said.shape is Shape.RAMP), said.seconds
    return lambda rate: Open(replace(wanted.law, rate=rate), said.shape is Shape.RAMP), said.seconds


def _folder(wanted: Words) -> Path:
    """Where the report goes. Raises CannotWrite now, not after an hour."""
    name = "".join(one if one.isalnum() else "-" for one in wanted.profile.lower())[:40]
    folder = wanted.out or beforehand.OUT / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}"
    store.write(folder, {})
    return folder


def _counted(source: machine.Server, *, settled: bool = False) -> machine.Tokens | None:
    """The server's count; what it does not tell is not known, which its gate says."""
    try:
        return machine.counted(source, settled=settled)
    except ValueError as error:
        _say(str(error))
        return None


def reconciled(outcome: Outcome, before: machine.Tokens | None, after: machine.Tokens | None) -> Outcome:
    """With the server's own count of the run's tokens, where it could be read before and behind it."""
    between = after.since(before) if before is not None and after is not None else None
    return outcome if between is None else course.reconciled(outcome, between.output)


def _series(source: machine.Server, records: Sequence[Record]) -> list[Series]:
    try:
        return machine.during(source, records)
    except ValueError as error:
        _say(str(error))
        return []


def _environment(wanted: Asked, nonce: int) -> Environment:
    accounts = {"ACCOUNTS": wanted.accounts} if wanted.accounts else {}
    here = {"load client": f"Python {platform.python_version()}, locust {version('locust')}"}
    return Environment(
        target=wanted.target.url, hardware=wanted.facts["hardware"], versions=here | wanted.facts["versions"],
        configuration=wanted.words.said() | {"MODEL": wanted.model} | accounts | wanted.facts["configuration"],
        seeds={"run": wanted.words.seed, "nonce": nonce},
    )  # fmt: skip


def _title(wanted: Words) -> str:
    """What the run was, in a few words."""
    *lower, top = (label(load, wanted.unit.value) for load in wanted.loads) if wanted.loads else ("",)
    loads = ", ".join([*(one.split()[0] for one in lower), top])
    what = {
        Shape.SEARCH: f"how many {wanted.unit.value}", Shape.REPLAY: "replay of a log",
        Shape.RAMP: f"growing to {loads}",
    }.get(wanted.shape, loads)  # fmt: skip
    return f"{wanted.profile}: {what}"


def _written(result: Result, outcome: Outcome, folder: Path, status: int) -> int:
    """Writes the report and says what is in it. The exit status: this one, or that nothing could be written."""
    say(f"{sentences.VERDICTS[result.verdict]}  {sentences.headline(result)}", sys.stdout)
    for gate in result.gates:
        if gate.word != "PASS":
            say(f"  gate {gate.name}: {gate.word}, {gate.value} (allowed: {gate.limit})", sys.stdout)
    for line in sentences.troubles(result):
        say(f"  {line}", sys.stdout)
    try:
        store.write(folder, files.render(result, outcome.records))
    except CannotWrite as error:
        _say(str(error))
        return status or CODES["none"]
    say(f"report: {folder / 'report.html'}", sys.stdout)
    return status


def _say(text: str) -> None:
    say(text, sys.stderr)


if __name__ == "__main__":
    sys.exit(main(os.environ))
