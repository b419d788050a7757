"""The search on real connections: a server whose knee is known. Five longer ones: `make bench-search`."""

from __future__ import annotations

import pytest

from bench.search import Knee, find, finished
from loadtests.search import Ending, Plan
from tests.support.records import record


def test_a_real_search_comes_near_the_known_knee() -> None:
    knee = Knee(slots=32, first=0.04, gap=0.03, tokens=3, objective=0.14)
    true = knee.true(n=400_000)
    capacity = knee.slots / knee.service
    plan = Plan(
        start=0.6 * capacity, highest=2 * capacity, lowest=1, requests=400, final_requests=400, repeats=3,
        tolerance=0.08,
    )  # fmt: skip
    found = find(knee, plan)
    if found.ending is Ending.INVALID:
        pytest.skip(f"the machine is not quiet: {found.why}")
    assert found.load is not None, found.why
    assert found.load.value == pytest.approx(true, rel=0.15), "a coarse search, on a machine that others use too"
    assert found.load.low < capacity


def test_what_is_done_beyond_a_running_request_is_not_counted() -> None:
    records = [record(session=session) for session in (0, 1, 2, 4, 5)]
    assert [one.session for one in finished(records)] == [0, 1, 2]
