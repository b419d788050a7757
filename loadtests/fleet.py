"""The fleet: worker processes that make a load, and the one that tells them and gathers what they saw.

Import it before anything else that opens connections: it imports locust, which patches the process for gevent.
"""

from __future__ import annotations

import locust  # noqa: F401, I001  (first: it patches the process)

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

from loadtests.loads import Closed, FleetError, Held, Load, Open, Replay
from loadtests.records import Record
from loadtests.target import Target

if TYPE_CHECKING:
    from loadtests.workload import Profile

__all__ = ["Closed", "FleetError", "Held", "Load", "Open", "Replay"]


class Fleet:
    """Worker processes for one target and profile, warm between loads. Use it with `with`.

    Args:
        target: where, and as whom.
        profile: what people ask.
        processes: how many workers make the load, each a process of its own beside this one: what this one computes
            meanwhile does not make them late. At most one for each core.
        stats: let locust keep its own statistics too.
        timeout: the longest that a request may take (seconds).
    """

    def __init__(
        self, target: Target, profile: Profile, *, processes: int = 1, stats: bool = True, timeout: float = 600
    ) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(self, *error: object) -> None:
        raise NotImplementedError

    def hold(
        self,
        load: Load,
        seed: int,
        *,
        seconds: float,
        until: Callable[[Sequence[Record], float], bool] | None = None,
        grace: float = 10,
    ) -> Held:
        """Holds a load, and returns when the last request is over.

        Args:
            load: what to do.
            seed: the same one, the same conversations and moments. A warm cache knows them: take another for each load.
            seconds: how long. It ends early when `until` says so, on Ctrl-C, and when a worker dies (then
                `client.dropped` is not 0).
            until: asked about twice a second with all records so far (in the order in which requests ended: more may
                still run that began before) and the seconds since the beginning; True ends the load.
            grace: how long to wait for what still runs at the end; the rest is cancelled.

        Raises:
            FleetError: the scenario cannot go on, or the workers are gone.
        """
        raise NotImplementedError
