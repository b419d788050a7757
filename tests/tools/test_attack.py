"""A short run of `make attack`: nothing gets through, and the same attacks get through a naive gateway."""

from __future__ import annotations

from tests.attack import run
from tests.attack.__main__ import SEED

REQUESTS = 360


def test_attacks_reach_nothing_and_good_requests_pass() -> None:
    result = run.run(SEED, REQUESTS, rest=0)
    assert result.missed(full=False) == [], f"{run.report(result)}\n{run.table(result)}"
    assert len(result.volley.sent) == REQUESTS
    assert sum(map(len, result.volley.arrived.values())) > 20, (
        "hardly anything arrives: the verdict has nothing to judge"
    )
