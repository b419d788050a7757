"""The hardware guide: the page is the one that the planner makes, and what differs from the first notes says why."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from stack.capacity import guide
from stack.capacity.facts import rows
from stack.capacity.first_notes import QUANTITIES, Figure, figures


@pytest.fixture(scope="module")
def text() -> str:
    return guide.page()


def test_the_page_is_up_to_date(text: str) -> None:
    assert guide.PAGE.read_text() == text, "python -m stack.capacity.guide"


def test_an_old_page_is_told(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(guide, "page", lambda: text)
    monkeypatch.setattr(guide, "PAGE", tmp_path / "docs" / "hardware.md")
    assert guide.main(["--check"]) == 1
    assert "is old: python -m stack.capacity.guide" in capsys.readouterr().out
    guide.PAGE.parent.mkdir()
    assert guide.main([]) == 0
    assert guide.PAGE.read_text() == text
    assert guide.main(["--check"]) == 0
    guide.PAGE.write_text(text.replace("RTX 3090", "RTX 3091"))
    assert guide.main(["--check"]) == 1


def test_every_figure_of_the_notes_is_there_with_ours(text: str) -> None:
    listed = {
        document: sum(one.document == document for one in figures())
        for document in dict.fromkeys(one.document for one in figures())
    }
    assert listed == {
        "LM Studio report": 8,
        "LocalAI overview": 2,
        "Ollama and LiteLLM stack": 31,
        "reference architecture": 37,
    }
    for one in figures():
        assert f"| {one.says} |" in text
        assert one.basis


def test_what_is_more_than_a_quarter_apart_says_why() -> None:
    for one in figures():
        assert 0 <= one.ours[0] <= one.ours[1] < math.inf, one.says
        assert one.theirs[0] <= one.theirs[1], one.says
    differing = [one for one in figures() if one.differs]
    assert len(differing) > 10
    assert [one.says for one in differing if len(one.why) < 40 or not one.why.endswith(".")] == []


def test_how_far_apart_is_from_the_nearer_ends() -> None:
    def apart(theirs: tuple[float, float], ours: tuple[float, float]) -> float:
        return Figure(document="", says="", theirs=theirs, ours=ours, unit="", basis="", why="").apart

    assert apart((10, 20), (15, 15)) == 0
    assert apart((10, 20), (5, 12)) == 0
    assert apart((10, 20), (30, 40)) == pytest.approx(0.5)
    assert apart((10, 20), (1, 5)) == pytest.approx(-0.5)
    assert apart((50, math.inf), (100, 200)) == 0
    assert apart((0, 5), (7.5, 9)) == pytest.approx(0.5)


def test_all_ways_to_compute_are_used() -> None:
    assert {row["quantity"] for row in rows("first_notes")} == set(QUANTITIES)


def test_models_that_do_not_exist_are_said_to() -> None:
    for says in (
        "Qwen 3.6 7.6B: 6 GB of VRAM",
        "DeepSeek V4 67B: 42 GB of VRAM",
        "Llama 4 8B: 6",
        "Llama 4 70B: 42 GB",
    ):
        assert any(one.says.startswith(says) and one.why.startswith("There is no") for one in figures())
