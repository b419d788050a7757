"""What locust's own statistics and web page show of a request: rows with our names, TTFT, TPOT and E2E by scenario.

They are for looking on while it runs. Locust rounds times to two digits and knows nothing of intervals; what is
concluded comes from the records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from loadtests.analysis import metrics
from loadtests.records import Outcome, Record

if TYPE_CHECKING:  # it patches whoever imports it
    from locust.env import Environment

LIMIT: Final = "limit hit"


def failure(record: Record) -> str | None:
    """Why it failed, None when it did not, or when we stopped it ourselves. Few different ones: locust keeps each."""
    match record.outcome:
        case Outcome.OK | Outcome.CANCELLED:
            return None
        case Outcome.LIMIT:
            return LIMIT
        case _:
            status = "" if record.status is None or record.status < 300 else f" {record.status}"
            return f"{record.outcome.value}{status}: {record.error[:120]}".rstrip(": ")


def show(environment: Environment, record: Record) -> None:
    """Counts a request once, as E2E; its TTFT and TPOT are rows beside it that are in no sum."""
    if record.outcome is Outcome.CANCELLED:
        return
    kind, size, failed = record.scenario, sum(record.pieces_chars), failure(record)
    environment.events.request.fire(  # type: ignore[no-untyped-call]
        request_type=kind, name="E2E", response_time=1000 * metrics.e2e(record), response_length=size,
        exception=failed, context={},
    )  # fmt: skip
    if failed is not None:
        return
    for name, value in (("TTFT", metrics.ttft(record)), ("TPOT", metrics.tpot(record))):
        if value is not None:
            environment.stats.get(name, kind).log(round(1000 * value), 0)
