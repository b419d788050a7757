"""What `make plan` says of speed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops import calibration, paths, speeds
from ops.errors import OpsError
from ops.preflight import fit as fits
from ops.request import Request, parse
from stack.capacity import calibrate, facts, roofline
from stack.capacity.calibrate import Run
from stack.capacity.outlook import Outlook, outlook
from stack.capacity.roofline import Card
from stack.config.explain import parse_platform
from stack.config.model import Platform
from tests.unit.test_config_errors import GOOD

CARD = {"device": "nvidia-rtx-4090"}


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PRIVATE_LLM_STATE", str(tmp_path))
    return tmp_path


def platform(name: str = "qwen3:8b", **engine: Any) -> Platform:
    content = GOOD | {
        "models": [{"name": name, "aliases": ["default"]}],
        "memory": {"enabled": False},
        "engine": {"accelerator": "nvidia", "hardware": [CARD]} | engine,
    }
    return parse_platform(content, "Pulumi.dev.yaml")


def found(of: Platform) -> dict[str, Outlook]:
    at = fits.host(of)
    assert at is not None
    known = fits.models(of)
    return dict(speeds.outlooks("dev", of, fits.planned(of, at, known), known))


def test_a_model_that_fits_has_a_sentence_with_bands() -> None:
    one = found(platform(contextLength=8192))["qwen3:8b"]
    said = speeds.text("qwen3:8b", one)
    assert 80 < one.alone.low < one.alone.value < one.alone.high < 220
    assert f"about {one.alone.value:.0f} ({one.alone.low:.0f} to {one.alone.high:.0f}) tokens/s alone" in said
    assert "4096 tokens behind it; 4 at once about" in said
    assert "a prompt of 2048 tokens at about" in said
    assert "published measurements of cuda-gddr cards" in said
    assert speeds.document(one)["alone"]["value"] == one.alone.value


def test_more_slots_give_more_together_and_one_gives_no_such_figure() -> None:
    few, many = (found(platform(parallel=n, contextLength=2048))["qwen3:8b"].together for n in (2, 8))
    assert few is not None
    assert many is not None
    assert many.value > few.value
    assert found(platform(parallel=1))["qwen3:8b"].together is None


def test_slots_beyond_what_anybody_measured_have_no_figure() -> None:
    shape = facts.model("qwen3:8b")
    assert shape is not None
    one = outlook(shape.shape, Card(kind="apple", bandwidth=8e11), slots=64, context=512)
    assert one.together is None
    assert one.prefill is None
    assert "64 at once: nobody measured as many" in speeds.text("m", one)


@pytest.mark.parametrize(
    "engine",
    [
        {"accelerator": "cpu", "hardware": []},
        {"hardware": []},
        {"hardware": [{"memory": "24GiB"}]},
    ],
    ids=["cpu", "no cards", "no bandwidth"],
)
def test_where_nothing_is_known_nothing_is_said(engine: dict[str, Any]) -> None:
    of = platform(**engine)
    at = fits.host(of)
    if at is not None:
        known = fits.models(of)
        assert speeds.outlooks("dev", of, fits.planned(of, at, known), known) == {}


def test_a_model_that_does_not_fit_has_no_speed() -> None:
    assert found(platform("qwen3:32b", contextLength=32768)) == {}


def test_a_card_given_by_bandwidth_is_of_its_accelerator_s_kind() -> None:
    wide = found(platform(hardware=[{"memory": "24GiB", "bandwidth": 1008}]))["qwen3:8b"]
    assert wide.alone.value == pytest.approx(found(platform())["qwen3:8b"].alone.value)


def test_the_slowest_card_counts() -> None:
    slow = found(platform(hardware=[CARD, {"device": "nvidia-rtx-3060"}]))["qwen3:8b"]
    assert slow.alone.value < found(platform(hardware=[CARD, CARD]))["qwen3:8b"].alone.value / 2


def test_a_calibrated_machine_s_own_figures_go_first(state: Path) -> None:
    known = facts.model("qwen3:8b")
    assert known is not None
    load = roofline.work(replace(known.shape, name="qwen3:8b"))
    usual = found(platform(contextLength=8192))["qwen3:8b"].alone
    run = Run(model="qwen3:8b", load=load, depth=4096, rate=usual.value / 2)
    machine = calibrate.calibrate(Card(kind="cuda-gddr", bandwidth=1008e9), [run], measured="2026-11-21")
    speeds.calibration("dev").write_text(calibrate.dump({speeds.HOST: machine}))
    one = found(platform(contextLength=8192))["qwen3:8b"].alone
    assert one.value == pytest.approx(usual.value / 2)
    assert "measured on this machine, 2026-11-21" in one.basis


def test_a_damaged_calibration_is_told_in_words() -> None:
    speeds.calibration("dev").write_text("{")
    with pytest.raises(OpsError, match="make calibrate"):
        found(platform())


# --- make calibrate --------------------------------------------------------------------------------------------------


@pytest.fixture
def request_(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Request:
    """A request with good figures, of a stack that is written down."""
    content = GOOD | {
        "models": [{"name": "qwen3:8b", "aliases": ["default"]}, {"name": "gemma3:4b"}],
        "memory": {"enabled": False},
        "engine": {"accelerator": "nvidia", "hardware": [CARD], "contextLength": 8192},
    }
    (tmp_path / "Pulumi.dev.yaml").write_text(yaml.safe_dump({"config": {"private-llm:platform": content}}))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return parse("calibrate", {"RATES": "qwen3:8b=1:90,2:170,4:300 gemma3:4b=1:150", "DEPTH": "1024"})


def test_what_was_measured_is_what_the_plan_says(request_: Request, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibration.calibrate(request_) == 0
    assert "make plan STACK=dev" in capsys.readouterr().out
    assert speeds.calibration("dev").stat().st_mode & 0o077 == 0
    made = calibrate.load(speeds.calibration("dev"))[speeds.HOST]
    known = facts.model("qwen3:8b")
    assert known is not None
    load = roofline.work(known.shape)
    assert made.decode("qwen3:8b", load, 1024).value == pytest.approx(90)
    curve = made.batch("qwen3:8b", load)
    assert curve is not None
    assert curve.rate(4, 1024).value == pytest.approx(300, rel=0.05)
    assert made.batch("gemma3:4b", load) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"RATES": ""}, "no measured rates"),
        ({"RATES": "llama9:1b=1:90"}, "llama9:1b is not a model whose size is known"),
        ({"RATES": "1:90"}, "no figure behind the model"),
        ({"RATES": "qwen3:8b=1:0.011"}, "did processors compute it"),
        ({"RATES": "qwen3:8b=1:90,2:9000"}, "2 answers at once got 9000 tokens a second, more than 2 times the 90"),
        ({"RATES": "qwen3:8b=fast"}, "is not answers:tokens/s"),
        ({"RATES": "qwen3:8b=0:90"}, "is not answers:tokens/s"),
        ({"RATES": "qwen3:8b=1:nan"}, "cannot be"),
        ({"RATES": "qwen3:8b=1:9000"}, "faster than this memory"),
        ({"RATES": "qwen3:8b=4:90"}, "single answer"),
        ({"RATES": "qwen3:8b=1:90", "DEPTH": "deep"}, "DEPTH=deep"),
    ],
)
def test_figures_that_cannot_be_are_refused_and_nothing_is_kept(
    request_: Request, words: dict[str, str], said: str
) -> None:
    with pytest.raises(OpsError, match=said):
        calibration.calibrate(parse("calibrate", words))
    assert not speeds.calibration("dev").exists()
