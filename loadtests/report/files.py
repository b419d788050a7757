"""All files of a run, to be written in one go by `store.write`."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.records import Record
from loadtests.report import markdown, page
from loadtests.results.schema import Result
from loadtests.results.store import to_csv, to_json


def render(result: Result, records: Sequence[Record]) -> dict[str, str]:
    """File name to text; the figures first, so that they are there if the disk fills up on the way."""
    return {
        "result.json": to_json(result),
        "requests.csv": to_csv(records),
        "summary.md": markdown.render(result),
        "report.html": page.render(result),
    }
