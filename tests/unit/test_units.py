"""Durations and sizes: every unit, and what is refused."""

from __future__ import annotations

import pytest

from stack.config.units import mebibytes, seconds, seconds_text


@pytest.mark.parametrize(
    ("text", "wanted"), [("250ms", 0.25), ("30s", 30), ("10m", 600), ("2h", 7200), ("7d", 604_800), ("0s", 0)]
)
def test_durations_in_seconds(text: str, wanted: float) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"), [("12h", "43200s"), ("365d", "31536000s"), ("250ms", "0.25s"), ("700ms", "0.7s"), ("0s", "0s")]
)
def test_durations_for_other_programs_have_no_exponent(text: str, wanted: str) -> None:
    assert seconds_text(text) == wanted


@pytest.mark.parametrize(("text", "wanted"), [("512MiB", 512), ("4GiB", 4096), ("1TiB", 1_048_576)])
def test_sizes_in_mebibytes(text: str, wanted: int) -> None:
    assert mebibytes(text) == wanted


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "-1s", "1.5h", "10min", "1w", "10m\n", "٣s"])
def test_other_durations_are_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="for example 10m"):
        seconds(text)


@pytest.mark.parametrize("text", ["", "4", "GiB", "4 GiB", "4GB", "4gib", "-1MiB", "0.5GiB", "4GiB\n"])
def test_other_sizes_are_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="for example 4GiB"):
        mebibytes(text)
