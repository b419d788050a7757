"""What must be reached, and whether it was. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, Literal


@dataclass(frozen=True)
class Goal:
    """A figure and its bound; `at most` and `at least` include the bound itself."""

    name: str
    side: Literal["at most", "at least"]
    bound: float
    unit: str

    def met(self, value: float) -> bool:
        """Whether a value is within the bound."""
        return value <= self.bound if self.side == "at most" else value >= self.bound


GOALS: Final = (
    Goal("client_over_direct", "at least", 2, "x, the client's own rate against a null server"),
    Goal("added_ttft_p50", "at most", 1, "ms at 16 streams at an engine's pace"),
    Goal("added_ttft_p95", "at most", 5, "ms at 16 streams at an engine's pace"),
    Goal("throughput_ratio", "at least", 0.5, "of the engine's unthrottled tokens/s at 16 streams"),
    Goal("tokens_per_core_over_litellm", "at least", 100, "x"),
    Goal("wrong_token_counts", "at most", 0, "answers"),
    Goal("ttft_seen_apart", "at most", 2, "ms between the gateway's and the client's, p95"),
    Goal("good_login", "at most", 1000, "ms, slowest of several under 64 connections of wrong passwords"),
    Goal("abuser_sent", "at least", 500, "requests/s of one who may send 60 a minute"),
    Goal("abuser_answered", "at most", 61, "answers a minute to that one"),
    Goal("others_refused", "at most", 0, "requests of the others beside the abuser"),
    Goal("others_moved", "at most", 0, "ms of the others' p95 beyond what is allowed"),
)

FREE_SHARE: Final = 0.10
FREE_TIME: Final = 5.0  # ms


def beyond(before: float, after: float) -> float:
    """How far a p95 moved beyond what is free: 10 % or 5 ms, whichever is larger. In milliseconds."""
    return max(0.0, after - before - max(FREE_SHARE * before, FREE_TIME))


def judge(values: dict[str, float]) -> dict[str, Any]:
    """Each goal with its value, and `pass` over all; what was not measured is named and is no pass.

    Raises KeyError for a value that belongs to no goal.
    """
    known = {goal.name for goal in GOALS}
    if strange := sorted(set(values) - known):
        raise KeyError(f"no goal is called {', '.join(strange)}")
    rows = {
        goal.name: {**asdict(goal), "value": values.get(goal.name), "pass": _passed(goal, values.get(goal.name))}
        for goal in GOALS
    }
    for row in rows.values():
        del row["name"]
    return {"targets": rows, "pass": all(row["pass"] for row in rows.values())}


def _passed(goal: Goal, value: float | None) -> bool:
    return value is not None and goal.met(value)
