"""The clock of another machine: what pings say of it, and how well."""

from __future__ import annotations

import numpy as np
import pytest

from loadtests.generator.clocks import BOUND_NS, Offset, Ping, offset

MS = 1_000_000


def test_the_quickest_ping_is_believed() -> None:
    pings = [Ping(0, 500 * MS + 9 * MS, 10 * MS), Ping(20 * MS, 521 * MS, 22 * MS), Ping(40 * MS, 540 * MS, 60 * MS)]
    assert offset(pings) == Offset(500 * MS, 1 * MS)


def test_the_true_offset_is_within_the_bound_however_uneven_the_ways_are() -> None:
    draws = np.random.default_rng(7)
    for true in (-(10**15), 0, 10**9):
        for _ in range(200):
            pings = []
            for _ in range(8):
                there, back = (int(one) for one in draws.exponential(0.4 * MS, 2))
                pings.append(Ping(10**12, 10**12 + there + true, 10**12 + there + back))
            found = offset(pings)
            assert abs(found.ns - true) <= found.bound_ns
            assert (found.shift_ns == 0) == (true == 0)


def test_one_clock_is_not_shifted_by_what_a_ping_is_off() -> None:
    assert offset([Ping(0, 90, 100)]).shift_ns == 0
    assert offset([Ping(0, 101, 100)]).shift_ns == 51


def test_a_slow_network_tells_too_little() -> None:
    assert offset([Ping(0, 0, 2 * BOUND_NS)]).known
    assert not offset([Ping(0, 0, 2 * BOUND_NS + 1)]).known


def test_no_ping_is_no_offset() -> None:
    with pytest.raises(ValueError, match="no ping"):
        offset([])
