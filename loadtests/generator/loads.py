"""What a fleet is told to do, and what it hands back. Pure: what plans a run need not know locust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loadtests.analysis import gates
from loadtests.records import Record

if TYPE_CHECKING:
    from loadtests.workload.arrivals import Arrivals
    from loadtests.workload.replay import Arrival


@dataclass(frozen=True, slots=True)
class Closed:
    """So many people, each of whom waits for the answer, thinks, and asks again."""

    users: int
    ramp: bool = False
    """They come one by one over the whole time, instead of within the first moments."""


@dataclass(frozen=True, slots=True)
class Open:
    """Requests that come when they come, whether the ones before are answered or not."""

    arrivals: Arrivals
    ramp: bool = False
    """The rate grows from nothing to that of the arrivals over the whole time."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Requests at the moments, and of the lengths, of a log."""

    arrivals: tuple[Arrival, ...]


Load = Closed | Open | Replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What came of one load. Moments are `time.monotonic_ns()`."""

    records: tuple[Record, ...]
    """Every request once, by intended start; what was still running when the grace was over says cancelled."""
    began_ns: int
    """When the load began: all workers start at this moment."""
    ended_ns: int
    """From here on nothing new was started."""
    client: gates.Client
    """What the workers measured of themselves meanwhile."""
    stopped: bool = False
    """Ctrl-C ended it early; the records are those until then."""


class FleetError(Exception):
    """The load cannot go on; the message says why and what to do."""
