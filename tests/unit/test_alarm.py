"""The alarm: greenlets wake at their moments, in order, never early."""

from __future__ import annotations

import time

import gevent
import numpy as np
import pytest

from loadtests.client.probe import LoopProbe
from loadtests.generator.alarm import SECOND, Alarm


def woken(alarm: Alarm, moments: list[int]) -> list[tuple[int, int]]:
    """(moment, how late in nanoseconds), in the order of waking."""
    found: list[tuple[int, int]] = []

    def one(moment: int) -> None:
        alarm.wait(moment)
        found.append((moment, time.monotonic_ns() - moment))

    gevent.joinall([gevent.spawn(one, moment) for moment in moments], timeout=10, raise_error=True)
    return found


def test_everybody_wakes_at_a_moment_of_its_own_and_hardly_late() -> None:
    start = time.monotonic_ns() + SECOND // 50
    moments = [start + int(at * SECOND / 2) for at in np.random.default_rng(4).random(100)]
    with Alarm() as alarm, LoopProbe() as probe:
        found = woken(alarm, moments)
    assert [moment for moment, _ in found] == sorted(moments)
    assert min(late for _, late in found) >= 0
    if probe.lags.quantile(0.99) < 2_000_000:
        assert np.median([late for _, late in found]) < 400_000, "the loop's own timers take twice as long"


def test_what_is_over_is_not_waited_for() -> None:
    with Alarm() as alarm:
        began = time.monotonic()
        alarm.wait(0)
        assert time.monotonic() - began < 1


def test_an_earlier_moment_may_come_later() -> None:
    start = time.monotonic_ns()
    with Alarm() as alarm:
        found = woken(alarm, [start + SECOND // 4, start + SECOND // 20, start + SECOND // 10])
    assert [moment for moment, _ in found] == sorted(moment for moment, _ in found)
    assert found[0][1] < SECOND // 10, "the first does not wait for the last"


def test_whoever_is_killed_is_not_in_the_way() -> None:
    start = time.monotonic_ns()
    with Alarm() as alarm:
        first = gevent.spawn(alarm.wait, start + SECOND // 20)
        gevent.sleep(0)
        first.kill()
        assert len(woken(alarm, [start + SECOND // 10])) == 1


def test_without_a_timer_of_the_kernel_the_loop_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.generator.alarm.ctypes.CDLL", lambda *_, **__: object())
    with Alarm() as alarm:
        ((_, late),) = woken(alarm, [time.monotonic_ns() + SECOND // 20])
    assert late > -SECOND / 1000, "the loop rounds"
