"""Sessions of people before the chat's page, in a process that gevent has patched: `PATCHED tests.support.people`.

Reads what to run from standard input (a list of what `session` takes), writes what came of each, as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from typing import Any

import gevent

from loadtests.records import Record
from loadtests.stream import Client
from loadtests.target import Target
from loadtests.users.base import CannotGoOn, Person
from loadtests.users.page import Accounts
from loadtests.users.ui import Ui
from loadtests.workload import PROFILES, Length

LIMIT = 10.0
PATCHED = (sys.executable, "-m", "gevent.monkey", "--module")


def session(what: dict[str, Any]) -> dict[str, Any]:
    """One session of people before the page: `url`, `model`, `environment`, `turns`, `upload`, `patience`, `leave`."""
    kept: list[Record] = []
    accounts = Accounts(what["environment"])
    profile = replace(
        PROFILES["ui"], turns=Length.parse(f"fixed:{what.get('turns', 1)}"), think=Length.parse("fixed:0.01"),
        input=Length.parse("fixed:40"), output=Length.parse("fixed:5"),
    )  # fmt: skip
    target = Target(url=what["url"], key="sk-test", ca=None, model=what.get("model", "default"))
    stopped = ""
    with Client(target.url, total_s=what.get("patience", 5.0)) as client:

        def live() -> None:
            nonlocal stopped
            person = Person(target=target, profile=profile, seed=1, number=7, keep=kept.append)
            try:
                for think in Ui(upload=what.get("upload", False), accounts=accounts).session(client, person):
                    gevent.sleep(think)
            except CannotGoOn as error:
                stopped = str(error)

        people = [gevent.spawn(live) for _ in range(what.get("people", 1))]
        gevent.joinall(people, timeout=what.get("leave", LIMIT))
        gevent.killall(people)
    return {"stopped": stopped, "records": [shown(one) for one in kept]}


def shown(record: Record) -> dict[str, Any]:
    """A record in JSON."""
    return asdict(record) | {"pieces_ns": list(record.pieces_ns), "pieces_chars": list(record.pieces_chars)}


if __name__ == "__main__":
    json.dump([session(one) for one in json.load(sys.stdin)], sys.stdout)
