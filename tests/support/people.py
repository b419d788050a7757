"""Sessions of people of a load, each told alone, in a process that gevent has patched: `PATCHED tests.support.people`.

Reads what to run from standard input (a list of what `session` takes), writes what came of each, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gevent

from loadtests.client.stream import Client
from loadtests.records import Record
from loadtests.target import Target
from loadtests.users import SCENARIOS
from loadtests.users.base import CannotGoOn, Flight, Person
from loadtests.users.page import Accounts
from loadtests.users.ui import Ui
from loadtests.workload.profiles import PROFILES, Length

PATCHED = (sys.executable, "-m", "gevent.monkey", "--module")


class Most(Flight):
    """Also knows how many there were at most."""

    most = 0

    def __enter__(self) -> None:
        super().__enter__()
        self.most = max(self.most, self.count)


def session(what: dict[str, Any]) -> dict[str, Any]:
    """One session for each of `people`, each with a place of its own. `profile` and its `lengths` say of which kind.

    `url`, `key`, `ca` and the models say where. With `ahead` it is one request of an open loop, so many seconds from
    when it is called. `environment` is what scenarios read from it. `patience`: of one request; `leave`: when who is
    not done is stopped.
    """
    os.environ.update(what["environment"])
    kept: list[Record] = []
    flight = Most()
    lengths = {name: Length.parse(text) for name, text in what["lengths"].items()}
    profile = replace(PROFILES[what.get("profile", "ui")], **lengths)
    target = Target(
        url=what["url"], key=what.get("key", "sk-test"), ca=Path(what["ca"]) if "ca" in what else None,
        **{name: what[name] for name in ("model", "embedding_model") if name in what},
    )  # fmt: skip
    # What is read from the environment is kept with a scenario, and each session here may have one of its own.
    scenario = Ui("ui", upload=what["upload"], accounts=Accounts(what["environment"])) if "upload" in what else None
    stopped = ""
    with Client(target.url, key=target.key, ca=target.ca, total_s=what["patience"], keep=kept.append) as client:

        def live(place: int) -> None:
            nonlocal stopped
            person = Person(
                target=target, profile=profile, seed=1, number=7, place=place, keep=kept.append, flight=flight
            )
            kind = scenario or SCENARIOS[profile.scenario]
            try:
                if "ahead" in what:
                    kind.once(client, person, time.monotonic_ns() + int(what["ahead"] * 1e9))
                    return
                for think in kind.session(client, person):
                    gevent.sleep(think)
            except CannotGoOn as error:
                stopped = str(error)

        everybody = [gevent.spawn(live, place) for place in range(what.get("people", 1))]
        gevent.joinall(everybody, timeout=what["leave"])
        gevent.killall(everybody)
    return {
        "stopped": stopped, "records": [shown(one) for one in kept], "most": flight.most, "under_way": flight.count,
    }  # fmt: skip


def shown(record: Record) -> dict[str, Any]:
    """A record in JSON."""
    return asdict(record) | {"pieces_ns": list(record.pieces_ns), "pieces_chars": list(record.pieces_chars)}


if __name__ == "__main__":
    json.dump([session(one) for one in json.load(sys.stdin)], sys.stdout)
