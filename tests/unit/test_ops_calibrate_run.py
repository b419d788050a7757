"""`make calibrate RUN=…`: a machine's speed from the report of a load run, as that program really writes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests.analysis import gates
from loadtests.analysis.slo import preset
from loadtests.records import Record
from loadtests.report import files
from loadtests.results import build, store
from loadtests.results.schema import Environment
from loadtests.workload import profiles
from ops import calibration, paths, record, speeds
from ops.errors import OpsError
from ops.request import Request, parse
from stack.capacity import calibrate, facts, observed, roofline
from stack.capacity.observed import ObservedError
from tests.support.records import failed
from tests.support.records import record as request_record
from tests.support.samples import ROOT
from tests.unit.test_config_errors import GOOD

CARD = {"device": "nvidia-rtx-4090"}
STEPS = {1: 11.0, 2: 12.0, 4: 13.5}  # ms of a step with so many answers at once


def level(people: int, start: float, answers: int = 12, tokens: int = 101, wait: float = 300.0) -> list[Record]:
    """So many people, each asking again at once, whose first token takes `wait` ms, from `start` (ms)."""
    step = STEPS[people]
    made = []
    for person in range(people):
        # The first token of an answer comes with the last of the one before: all of them answer all of the time.
        for number in range(answers):
            first = start + person * 7.0 + number * (tokens - 1) * step
            made.append(
                request_record(
                    first - wait, ttft=wait, itl=step, tokens=tokens, session=person, turn=number,
                    model="default", input_tokens=950,
                )
            )  # fmt: skip
    return made


def sweep() -> list[Record]:
    return [*level(1, 1_000), *level(2, 60_000), *level(4, 120_000), failed(200_000, model="default")]


Write = Callable[..., Request]


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Write:
    """Writes a stack and the report of a run; returns the request that calibrates with it."""
    monkeypatch.setenv("PRIVATE_LLM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    record.remember("dev", source="official")

    def made(records: list[Record], lag: float = 0.001, source: Any = "official", **engine: Any) -> Request:
        content = GOOD | {
            "models": [{"name": "qwen3:8b", "aliases": ["default"]}],
            "memory": {"enabled": False},
            "engine": {"accelerator": "nvidia", "hardware": [CARD], "contextLength": 8192} | engine,
        }
        (tmp_path / "Pulumi.dev.yaml").write_text(yaml.safe_dump({"config": {"private-llm:platform": content}}))
        record.remember("dev", source=source)
        place = Environment(target="https://localhost", hardware={}, versions={}, configuration={}, seeds={})
        checks = gates.check(records, preset("people"), client=gates.Client(lag=lag))
        result = build.result(records, preset("people"), place, title="t", started="2026-01-01", checks=checks)
        store.write(tmp_path / "run", files.render(result, records))
        return parse("calibrate", {"RUN": str(tmp_path / "run")})

    return made


def test_a_sweep_tells_one_answer_alone_and_several_at_once(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibration.calibrate(write(sweep())) == 0
    said = capsys.readouterr().out
    assert "qwen3:8b: 1 at once got 90.9 tokens/s, 1000 behind each (12 seen)" in said
    assert "qwen3:8b: 4 at once got 296.3 tokens/s" in said
    made = calibrate.load(speeds.calibration("dev"))[speeds.HOST]
    known = facts.model("qwen3:8b")
    assert known is not None
    load = roofline.work(known.shape)
    assert made.decode("qwen3:8b", load, 1000).value == pytest.approx(1000 / STEPS[1], rel=0.01)
    curve = made.batch("qwen3:8b", load)
    assert curve is not None
    assert curve.rate(4, 1000).value == pytest.approx(4000 / STEPS[4], rel=0.05)


def test_who_waits_in_the_queue_is_in_no_step() -> None:
    quick, slow = (
        observed.rates(observed.answers(rows(level(2, 60_000, wait=wait))))[-1] for wait in (100.0, 50_000.0)
    )
    assert (quick.answers, slow.answers) == (2, 2)
    assert quick.rate == pytest.approx(slow.rate)


def rows(records: list[Record]) -> list[dict[str, str]]:
    head, *lines = (line.split(",") for line in store.to_csv(records).splitlines())
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_a_few_answers_at_a_number_of_them_tell_nothing_of_it() -> None:
    some = observed.rates(observed.answers(rows([*level(1, 1_000), *level(4, 60_000, answers=1)])))
    assert [(one.answers, one.seen) for one in some] == [(1, 12)]
    with pytest.raises(ObservedError, match="4 whole answers are too few"):
        observed.rates(observed.answers(rows(level(4, 60_000, answers=1))))


def test_answers_without_a_count_or_that_failed_are_left_out() -> None:
    made = [request_record(0, output_tokens=None), failed(100), request_record(200, tokens=1)]
    assert observed.answers(rows(made)) == []


def test_models_that_shared_the_machine_are_not_told_apart() -> None:
    both = [*level(1, 0), *(request_record(1e6 + n, model="other") for n in range(9))]
    with pytest.raises(ObservedError, match="default and other answered in one run"):
        observed.rates(observed.answers(rows(both)))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"records": level(4, 1_000)}, "at least one run with a single answer"),
        ({"records": [failed(n) for n in range(3)]}, "no answer in it came whole"),
        ({"records": sweep(), "lag": 1.0}, "the client of that run was the bottleneck .loop lag p99.: its rates"),
        ({"records": sweep(), "source": "mirror"}, "small stand-ins"),
        ({"records": sweep(), "instances": 2, "gpus": ["0", "1"], "hardware": [CARD, CARD]}, "2 engines share"),
        ({"records": [*level(1, 0), *(request_record(1e6 + n, model="x") for n in range(9))]}, "measure each by itsel"),
    ],
    ids=["none alone", "nothing came", "client", "stand-ins", "instances", "two models"],
)
def test_a_run_that_tells_nothing_of_the_machine_is_refused(write: Write, how: dict[str, Any], said: str) -> None:
    request = write(**how)
    with pytest.raises(OpsError, match=said):
        calibration.calibrate(request)
    assert not speeds.calibration("dev").exists()


def test_other_models_than_the_stacks_are_refused(write: Write) -> None:
    with pytest.raises(OpsError, match=r"other is not a model whose size is known .qwen3:8b"):
        calibration.calibrate(write([request_record(20.0 * n, itl=1.0, model="other") for n in range(20)]))


def test_what_is_no_report_is_told(write: Write, tmp_path: Path) -> None:
    request = write(sweep())
    with pytest.raises(OpsError, match="leave RATES and DEPTH out"):
        calibration.calibrate(parse("calibrate", {"RUN": request.run, "DEPTH": "512"}))
    (tmp_path / "run" / "requests.csv").write_text("outcome,tpot_ms,output_tokens\nok,1,2\n")
    with pytest.raises(OpsError, match=r"line 2 is no request(.|\n)*fix: give the folder"):
        calibration.calibrate(request)
    for text in ("[" * 100_000, "[]", '{"gates": [1]}', "{}"):
        (tmp_path / "run" / "result.json").write_text(text)
        with pytest.raises(OpsError, match=r"result.json cannot be read as a result(.|\n)*fix: "):
            calibration.calibrate(request)
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(OpsError, match=r"result.json: No such file(.|\n)*fix: "):
        calibration.calibrate(request)


def test_people_of_the_example_never_think() -> None:
    profile = profiles.chosen(str(ROOT / "examples" / "calibrate.yaml"))
    talk = profiles.Conversation(profile, seed=1, number=0)
    assert (talk.turns, talk.turn(0).think_s, talk.turn(0).asked_tokens) == (1, 0, 200)
