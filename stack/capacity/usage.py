"""What people do and what they are promised: every number is an assumption that can be changed, and says so. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Final


class PeopleError(ValueError):
    """There is no answer for this; the text says why and what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What people do. Every number is an assumption until it was given; `ASSUMPTIONS` has where each is from."""

    input_tokens: float = 1155.0
    input_spread: float = 0.5
    cached: float = 0.0
    output_tokens: float = 211.0
    think_s: float = 45.0
    active_share: float = 0.1

    def __post_init__(self) -> None:
        """Raises PeopleError for numbers that cannot be."""
        wrong = {
            "input_tokens": not 1 <= self.input_tokens <= 1e7,
            "input_spread": not 0 <= self.input_spread <= 3,
            "cached": not 0 <= self.cached < 1,
            "output_tokens": not 1 <= self.output_tokens <= 1e6,
            "think_s": not 0 <= self.think_s <= 86_400,
            "active_share": not 0 < self.active_share <= 1,
        }
        for name, bad in wrong.items():
            if bad:
                said = ASSUMPTIONS[name]
                raise PeopleError(f"{name}: {getattr(self, name)} cannot be; it is {said.label}, {said.allowed}")

    @property
    def prompt_tokens(self) -> float:
        """Tokens of a prompt that have to be computed."""
        return self.input_tokens * (1 - self.cached)

    @property
    def variation(self) -> float:
        """Variance of a prompt's length over its mean squared, log-normal."""
        return math.exp(self.input_spread**2) - 1

    def longest(self, part: float) -> float:
        """How many times the mean the prompts are at most, for this share of requests (0 to 1)."""
        spread = self.input_spread
        return math.exp(NormalDist().inv_cdf(part) * spread - spread**2 / 2)

    @property
    def depth(self) -> float:
        """Tokens behind an answer, half of it written."""
        return self.input_tokens + self.output_tokens / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """What a number of `Usage` means and where its default is from."""

    label: str
    unit: str
    allowed: str
    source: str


Told = tuple[str, float, str, str]
"""A number's label, value, unit, and where it is from (`given` when it is not the default)."""

ASSUMPTIONS: Final[Mapping[str, Assumption]] = {
    "input_tokens": Assumption(
        label="tokens of a question with all that goes before it",
        unit="tokens",
        allowed="1 to 10 million",
        source="mean of Azure's conversations (trace of 2023, arXiv 2311.18677)",
    ),
    "input_spread": Assumption(
        label="how much these differ: standard deviation of their logarithm, 0 for all alike",
        unit="of ln",
        allowed="0 to 3",
        source="the same trace: mean 1155, median 1020",
    ),
    "cached": Assumption(
        label="share of them that the engine still has from the turn before",
        unit="share",
        allowed="0 to below 1",
        source="assumption: none, as slots change hands between people",
    ),
    "output_tokens": Assumption(
        label="tokens of an answer",
        unit="tokens",
        allowed="1 to 1 million",
        source="mean of the same trace; its median is 129",
    ),
    "think_s": Assumption(
        label="seconds from the end of an answer to the next question",
        unit="s",
        allowed="0 to a day",
        source="assumption, as in the load profile chat",
    ),
    "active_share": Assumption(
        label="share of the people with an account that are in a conversation at the peak",
        unit="share",
        allowed="above 0 to 1",
        source="assumption",
    ),
}


def told(usage: Usage) -> list[Told]:
    """Each number of `usage`."""
    return sources(ASSUMPTIONS, asdict(usage), asdict(Usage()))


def sources(assumed: Mapping[str, Assumption], values: Mapping[str, float], usual: Mapping[str, float]) -> list[Told]:
    """Each of these values, by what is assumed of it; it was given where it is not the usual one."""
    return [
        (said.label, values[name], said.unit, said.source if values[name] == usual[name] else "given")
        for name, said in assumed.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What people are promised: this share of requests stays within both limits, seconds."""

    ttft: float = 2.0
    tpot: float = 0.1
    part: float = 0.95

    def __post_init__(self) -> None:
        """Raises PeopleError for limits that cannot be."""
        if not (0 < self.ttft < math.inf and 0 < self.tpot < math.inf and 0 < self.part < 1):
            raise PeopleError("an SLO has limits above 0 s and holds for a share of requests between 0 and 1")
