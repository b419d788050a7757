"""The probes of the search on real connections, on both sides of a known knee. Whole searches: `make bench-search`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.search import Knee, Prober, finished, server
from loadtests.analysis.search import Budget
from loadtests.analysis.stats import Sequential, Verdict
from tests.support.records import record

KNEE = Knee(slots=16, first=0.04, gap=0.02, tokens=4, objective=0.14)
CAPACITY = KNEE.slots / KNEE.service


@pytest.fixture(scope="module")
def prober() -> Iterator[Prober]:
    with server(KNEE, warm_up=20) as running:
        yield running


@pytest.mark.parametrize(("share", "verdict", "at_most"), [(0.6, Verdict.PASS, 300), (1.6, Verdict.FAIL, 299)])
def test_a_probe_tells_on_which_side_of_the_knee_it_is(
    prober: Prober, share: float, verdict: Verdict, at_most: int
) -> None:
    result = prober(share * CAPACITY, 1, Budget(300, Sequential(0.05, 300)))
    if result.invalid:
        pytest.skip(f"the machine is not quiet: {result.invalid}")
    assert result.verdict is verdict
    assert result.n <= at_most, "a failure is clear early"


def test_simulation_and_arithmetic_agree_on_the_knee() -> None:
    true = KNEE.true(n=400_000)
    assert 0.5 * CAPACITY < true < CAPACITY
    assert KNEE.missed(0.97 * true, 5, 400_000) < 0.05 < KNEE.missed(1.03 * true, 5, 400_000)


def test_what_is_done_beyond_a_running_request_is_not_counted() -> None:
    records = [record(session=session) for session in (0, 1, 2, 4, 5)]
    assert [one.session for one in finished(records)] == [0, 1, 2]
