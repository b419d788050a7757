"""Baselines: runs that differ by noise are alike, slower ones are found, and what cannot be compared is no pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.analysis import slo
from loadtests.analysis.gates import Gate, Side
from loadtests.analysis.stats import Floats, Interval
from loadtests.compare import baseline, regression
from loadtests.compare.regression import CannotCompare, Comparison, Sample
from loadtests.records import Record
from loadtests.report import words as sentences
from loadtests.results import build, store
from loadtests.results.schema import Environment, Result
from tests.support import queues
from tests.support.records import MS, record

AT_ONCE, TURNS = 20, 8
ENVIRONMENT = Environment(
    target="https://localhost:8443", hardware={"GPUs": "1 x NVIDIA L4, 23034 MiB, 570.86.15", "cores": "8"},
    versions={"engine": "Ollama 0.11.0"},
    configuration={"PROFILE": "chat", "SHAPE": "hold", "UNIT": "users", "LOADS": "8", "engine.parallel": "4"},
    seeds={"run": 1},
)  # fmt: skip


def drawn(seed: int, n: int, factor: float = 1.0) -> tuple[Floats, list[int]]:
    """Latencies as a server's: requests of one session are alike, and so are neighbours in time."""
    rng = np.random.default_rng(seed)
    people = rng.normal(0, 0.2, n // TURNS)
    together = [range(first, min(first + AT_ONCE, people.size)) for first in range(0, people.size, AT_ONCE)]
    sessions = [one for group in together for _ in range(TURNS) for one in group]
    waves = rng.normal(0, 0.3, len(sessions))
    for k in range(1, waves.size):
        waves[k] = 0.6 * waves[k - 1] + 0.8 * waves[k]
    return factor * np.exp(people[sessions] + waves), sessions


def sample(seed: int, n: int = 480, factor: float = 1.0) -> Sample:
    values, sessions = drawn(seed, n, factor)
    rates = 1000 / factor * np.random.default_rng(seed).gamma(200, 1 / 200, 60)
    return Sample(
        sessions=sessions, ttft=list(values), tpot=list(0.05 * values**0.3), e2e=list(5 * values), rates=list(rates)
    )


def request(k: int, factor: float) -> Record:
    wait = float(np.random.default_rng(k).gamma(50, 4))
    made: Record = record(k * 100.0, ttft=factor * wait, itl=factor * 10, session=k // TURNS, turn=k % TURNS)
    return made


def requests(factor: float = 1.0, n: int = 400, seed: int = 0) -> list[Record]:
    return [request(1000 * seed + k, factor) for k in range(n)]


def built(records: list[Record], environment: Environment = ENVIRONMENT, **changes: Any) -> Result:
    believed = Gate(name="completed", side=Side.RUN, passed=True, value="", limit="", why="")
    return build.result(
        records, slo.preset("people"), environment, title="chat: 8 users", started="2026-01-02T03:04:05Z",
        checks=(believed,), **changes,
    )  # fmt: skip


def kept(folder: Path, records: list[Record], environment: Environment = ENVIRONMENT) -> Path:
    made = baseline.make(built(records, environment), store.to_csv(records))
    file = baseline.path(built(records, environment), made.fingerprint, folder=folder)
    store.write(folder, {file.name: baseline.to_json(made)})
    return file


@pytest.mark.parametrize(("level", "most"), [(0.05, 42), (0.01, 13)])
def test_requests_that_resemble_each_other_raise_no_more_false_alarms_than_the_level(level: float, most: int) -> None:
    """600 pairs of runs of one distribution: `most` has 99% of the chance where alarms are as frequent as the level."""
    alarms = 0
    for seed in range(600):
        (new, sessions), (old, before) = drawn(2 * seed, 480), drawn(2 * seed + 1, 480)
        alarms += regression.slower(new, sessions, old, before) < level
    assert alarms <= most


def test_the_whole_comparison_is_quiet_when_nothing_changed() -> None:
    """All four comparisons share one error of 1%: of 100 runs at most 4 (99.6%)."""
    alarms = [any(one.worse for one in regression.compare(sample(2 * k), sample(2 * k + 1))) for k in range(100)]
    assert sum(alarms) <= 4


def test_a_regression_of_15_percent_is_found_nine_times_in_ten() -> None:
    """With 1,600 requests in sessions of 8 on each side; TTFT alone, as TPOT is less scattered."""
    found = 0
    for k in range(60):
        new, old = sample(2 * k, 1600, 1.15), sample(2 * k + 1, 1600)
        found += next(one.worse for one in regression.compare(new, old) if one.name == "time to first token")
    assert found >= 54


def test_a_run_that_is_short_beside_the_memory_of_its_queue_is_not_compared() -> None:
    """By batch means alone 23 of 100 such pairs were called worse."""
    busy = queues.poisson(0.9, 1, 600, 120, 3).whole
    alarms, said = 0, 0
    for new, old in zip(busy[::2], busy[1::2], strict=True):
        alone = list(range(600))
        one, other = (
            Sample(sessions=alone, ttft=list(values), tpot=[None] * 600, e2e=[None] * 600, rates=[100.0, 99.0] * 30)
            for values in (new, old)
        )
        compared = regression.compare(one, other)[0]
        alarms += compared.worse
        said += "too short beside the memory of its queue" in str(compared)
    assert alarms <= 2
    assert said >= 45


def test_what_could_not_be_compared_is_no_pass(tmp_path: Path) -> None:
    waits = queues.poisson(0.95, 1, 400, 2, 4).whole

    def made(which: int) -> list[Record]:
        return [record(k * 100.0, ttft=100 * float(wait), itl=10, session=k) for k, wait in enumerate(waits[which])]

    kept(tmp_path, made(0))
    told = baseline.gate(built(made(1)), made(1), folder=tmp_path)
    result = baseline.applied(built(made(1)), told)
    assert told.passed is None
    assert "not compared with a baseline: time to first token: " in told.said
    assert "hold it at least " in told.said
    assert next(gate for gate in told.gates if gate.name == "no regression: time to first token").word == "n/a"
    assert result.verdict != "pass"


def test_what_nobody_would_notice_is_no_regression_however_certain() -> None:
    slower = next(one for one in regression.compare(sample(1, 1600, 1.04), sample(1, 1600)) if "whole" in one.name)
    surely = Comparison(name="e2e", new=slower.new, old=slower.old, change=0.04, p=1e-9)
    assert slower.change == pytest.approx(0.04)
    assert not slower.worse
    assert not surely.worse


def test_less_throughput_is_worse_and_more_is_not() -> None:
    of = partial(Comparison, name="tokens/s", new=Interval(8, 7, 9), old=Interval(10, 9, 11), p=1e-6)
    assert of(change=-0.2, higher_is_worse=False).worse
    assert not of(change=0.2, higher_is_worse=False).worse
    half = sample(1).model_copy(update={"rates": [one / 2 for one in sample(1).rates]})
    assert [one.name for one in regression.compare(half, sample(2)) if one.worse] == ["tokens/s"]


def test_a_run_like_its_baseline_passes_and_shows_both_intervals(tmp_path: Path) -> None:
    kept(tmp_path, requests())
    again = requests(seed=1)
    told = baseline.gate(built(again), again, folder=tmp_path)
    assert told.passed
    assert len(told.gates) == 4
    assert all(" was " in one.value and one.value.count(" to ") == 2 for one in told.gates)
    assert baseline.applied(built(again), told).verdict == "pass"


def test_a_slower_run_fails_and_says_by_how_much_and_what_changed(tmp_path: Path) -> None:
    kept(tmp_path, requests())
    slow = requests(1.3, seed=1)
    newer = ENVIRONMENT.model_copy(update={"versions": {"engine": "Ollama 0.12.0"}})
    told = baseline.gate(built(slow, newer), slow, folder=tmp_path)
    result = baseline.applied(built(slow, newer), told)
    assert (told.passed, result.verdict) == (False, "fail")
    assert "time to first token +3" in result.reason
    assert sentences.headline(result).startswith("The objectives held, but it is worse than the run of 2026-01-02")
    assert "engine Ollama 0.11.0 -> Ollama 0.12.0" in result.reason
    assert next(gate.name for gate in result.gates if gate.word == "FAIL") == "no regression: time to first token"


def test_without_a_baseline_nothing_is_passed_and_the_way_out_is_told(tmp_path: Path) -> None:
    told = baseline.gate(built(requests()), requests(), folder=tmp_path)
    assert told.passed is None
    assert "make baseline" in told.said
    result = baseline.applied(built(requests()), told)
    assert (result.verdict, result.gates[-1].word) == ("none", "n/a")


@pytest.mark.parametrize(
    ("changes", "alike"),
    [
        ({"versions": {"engine": "Ollama 0.12.0"}}, True),
        ({"hardware": {"GPUs": "1 x NVIDIA L4, 23034 MiB, 590.1", "cores": "8"}}, True),
        ({"configuration": {**ENVIRONMENT.configuration, "engine.parallel": "8"}}, True),
        ({"hardware": {"GPUs": "2 x NVIDIA L4, 23034 MiB, 570.86.15", "cores": "8"}}, False),
        ({"versions": {"engine": "vLLM 0.11.0"}}, False),
        ({"configuration": {**ENVIRONMENT.configuration, "LOADS": "16"}}, False),
        ({"configuration": {**ENVIRONMENT.configuration, "PROFILE": "rag"}}, False),
        ({"configuration": {**ENVIRONMENT.configuration, "digest default": "sha256:1"}}, False),
    ],
)
def test_runs_are_compared_when_machine_model_and_load_are_the_same(changes: dict[str, Any], alike: bool) -> None:
    one, other = built(requests()), built(requests(), ENVIRONMENT.model_copy(update=changes))
    assert (baseline.fingerprint(one, ["a"]) == baseline.fingerprint(other, ["a"])) is alike


def test_other_models_are_another_baseline() -> None:
    assert baseline.fingerprint(built(requests()), ["a"]) != baseline.fingerprint(built(requests()), ["a", "b"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stopped": "Ctrl-C"}, "may not be believed .Ctrl-C"),
        ({"said": ("none", "the client was the bottleneck")}, "the client was the bottleneck"),
    ],
)
def test_a_run_that_may_not_be_believed_is_not_kept(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CannotCompare, match=says):
        baseline.make(built(requests(), **changes), store.to_csv(requests()))


def test_what_is_kept_is_what_the_report_is_about() -> None:
    """The warm-up was looked for once more in the rows, and ended elsewhere than in the report."""
    part = 10_050 * MS, 35_050 * MS
    result = built(requests(), window=part)
    kept = baseline.make(result, store.to_csv(requests())).sample
    assert len(kept.e2e) == result.whole.requests == 250
    assert np.mean(kept.rates) == pytest.approx(result.whole.tokens_per_second, rel=0.01)


@pytest.mark.parametrize("shape", ["search", "sweep", "ramp"])
def test_only_one_load_is_kept(shape: str) -> None:
    many = ENVIRONMENT.model_copy(update={"configuration": {**ENVIRONMENT.configuration, "SHAPE": shape}})
    with pytest.raises(CannotCompare, match="USERS=8"):
        baseline.make(built(requests(), many), store.to_csv(requests()))


def test_too_few_answers_are_not_kept() -> None:
    with pytest.raises(CannotCompare, match="too few"):
        baseline.make(built(requests(n=60)), store.to_csv(requests(n=60)))


@pytest.mark.parametrize(
    "text", ["", "{", '{"baseline_version": 2}', "[]", "[" * 100_000, "NaN in a list", "a list too short"]
)
def test_a_damaged_baseline_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "dev-1.json"
    good = baseline.to_json(baseline.make(built(requests()), store.to_csv(requests())))
    changed = {
        "NaN in a list": re.sub(r'"rates": \[[^,]*', '"rates": [NaN', good),
        "a list too short": re.sub(r'"sessions": \[[^,]*,', '"sessions": [', good),
    }
    file.write_text(changed.get(text, text))
    with pytest.raises(CannotCompare, match="delete it, then run the load"):
        baseline.read(file)


def test_a_damaged_row_is_named_by_its_line() -> None:
    text = store.to_csv(requests(n=3)).replace("\nchat,small,0,1,", "\nchat,small,x,1,")
    with pytest.raises(CannotCompare, match="line 3"):
        baseline.rows(text)


def test_the_file_is_small_and_comes_back(tmp_path: Path) -> None:
    file = kept(tmp_path, requests(n=5000))
    read = baseline.read(file)
    assert file.stat().st_size < 100_000
    assert len(read.sample.e2e) <= baseline.KEPT < read.requests
    assert baseline.to_json(read) == file.read_text()


def test_the_newest_run_is_kept_under_the_name_of_its_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(baseline, "FOLDER", tmp_path / "baselines")
    records = requests()
    store.write(tmp_path / "run", {"result.json": store.to_json(built(records)), "requests.csv": store.to_csv(records)})
    assert baseline.main({"RUN": str(tmp_path / "run"), "STACK": "big"}) == 0
    (file,) = (tmp_path / "baselines").iterdir()
    assert file.name.startswith("big-")
    assert "400 answers" in capsys.readouterr().out
    assert baseline.newest(tmp_path) == tmp_path / "run"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda table: table[:5000] + b"\xff\xfe" + table[5000:], "requests.csv cannot be read: byte 5000"),
        (lambda table: table.replace(b",200", b",nan", 1), "requests.csv, line 2 is no request"),
        (lambda table: table + b"x" * 200_000, "field larger than field limit"),
    ],
    ids=["no text", "nan", "huge"],
)
def test_a_damaged_run_is_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes], words: str
) -> None:
    """A run with nan in it was kept, and every later one passed beside it."""
    records = requests()
    table = store.to_csv(records)
    store.write(tmp_path / "run", {"result.json": store.to_json(built(records))})
    (tmp_path / "run" / "requests.csv").write_bytes(damage(table.encode()))
    assert baseline.main({"RUN": str(tmp_path / "run"), "BASELINES": str(tmp_path / "kept")}) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"nothing was kept: {tmp_path / 'run'}")
    assert words in said
    assert not (tmp_path / "kept").exists()


def test_where_there_is_no_run_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert baseline.main({"RUN": str(tmp_path)}) == 2
    assert f"nothing was kept: RUN={tmp_path}: there is no result.json: give the folder" in capsys.readouterr().err
    with pytest.raises(CannotCompare, match="make load USERS=8"):
        baseline.newest(tmp_path)
