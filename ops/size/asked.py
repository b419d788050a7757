"""The words of `make size`: what is asked for, and what is assumed in place of what is usual."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from loadtests.analysis import slo
from loadtests.sizing.sized import Asked
from ops.errors import OpsError
from stack.capacity import cost, usage
from stack.capacity.choose import DOLLAR, ChooseError, Market
from stack.capacity.cost import CostError, Habits, Prices
from stack.capacity.devices import DeviceError, find
from stack.capacity.usage import Assumption, PeopleError, Slo, Usage

USAGE: Final = {
    "INPUT": "input_tokens",
    "SPREAD": "input_spread",
    "CACHED": "cached",
    "OUTPUT": "output_tokens",
    "THINK": "think_s",
    "ACTIVE": "active_share",
}
HABITS: Final = {
    "HOST_W": "host_busy_w",
    "HOST_IDLE_W": "host_idle_w",
    "CARD_IDLE_W": "card_idle_w",
    "HOURS": "hours",
    "PEAK_SHARE": "load",
}
DEAR: Final = 5.0
"""No kWh costs as much in one of these; cents would."""
MAJOR: Final = frozenset({"USD", "EUR", "GBP", "CHF"})
EXAMPLE: Final = 'for example GPU_PRICE=1600, or GPU_PRICE="nvidia-rtx-4090=1600 nvidia-l40s=7500"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What was typed, checked."""

    asked: Asked
    apply: bool
    model: str
    watts: float | None


def parse(env: Mapping[str, str]) -> Words:
    """The words from the environment that `make` passes on. Raises OpsError with what is allowed."""
    currency = env.get("CURRENCY") or DOLLAR
    one, cards = _cards(env.get("GPU_PRICE", ""))
    api_in, api_out = _api(env.get("API_PRICE", ""))
    months = 36.0 if (given := _number(env, "MONTHS")) is None else given
    if months == 0:
        raise OpsError(f"MONTHS={env['MONTHS']}: months are above 0, for example MONTHS=36")
    if (dollar := _number(env, "DOLLAR")) == 0:
        raise OpsError(f"DOLLAR={env['DOLLAR']}: what one US dollar is in {currency}, for example DOLLAR=0.9")
    kwh, host = _number(env, "KWH"), _number(env, "HOST_PRICE")
    if kwh is not None and kwh > DEAR and currency in MAJOR:
        raise OpsError(f"KWH={env['KWH']}: the price of one kWh in {currency}, not in cents, for example KWH=0.30")
    try:
        habits = Habits(**_assumed(env, HABITS, cost.ASSUMPTIONS, Habits))
        asked = Asked(
            people=_people(env.get("PEOPLE", "")), usage=_assumed(env, USAGE, usage.ASSUMPTIONS, Usage),
            slo=_slo(env.get("SLO", "")), habits=habits,
            prices=Prices(currency=currency, kwh=kwh, card=one, host=host, months=months, api_input=api_in,
                          api_output=api_out),
            market=Market(currency=currency, cards=cards, dollar=dollar, host=host, kwh=kwh, months=months),
        )  # fmt: skip
    except (PeopleError, CostError, ChooseError) as wrong:
        raise OpsError(str(wrong)) from None
    if env.get("APPLY", "") not in {"", "0", "1"}:
        raise OpsError(f"APPLY={env['APPLY']}: 1 writes the proposed settings (or leave it out)")
    watts = _number(env, "CARD_W")
    if watts is not None and watts < 1:
        raise OpsError(f"CARD_W={env['CARD_W']}: watts of one card at work, for example CARD_W=320 (not kilowatts)")
    return Words(asked=asked, apply=env.get("APPLY") == "1", model=env.get("MODEL", ""), watts=watts)


def _assumed(
    env: Mapping[str, str],
    words: Mapping[str, str],
    assumptions: Mapping[str, Assumption],
    made: Callable[..., Usage | Habits],
) -> dict[str, float]:
    """The assumptions that were given, by their names. Raises OpsError with the word and what is allowed."""
    found = {}
    for word, name in words.items():
        if (value := _number(env, word)) is None:
            continue
        said = assumptions[name]
        try:
            made(**{name: value})
        except (PeopleError, CostError):
            percent = f"; {value:g} % is {word}={value / 100:g}" if said.unit == "share" and 1 < value <= 100 else ""
            raise OpsError(f"{word}={env[word]}: {said.label}; allowed: {said.allowed}{percent}") from None
        if said.unit == "W" and 0 < value < 1:
            raise OpsError(f"{word}={env[word]}: {said.label}, in watts, not in kilowatts")
        found[name] = value
    return found


def _number(env: Mapping[str, str], word: str) -> float | None:
    return _float(word, env[word]) if env.get(word) else None


def _float(word: str, text: str, example: str = "") -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise OpsError(f"{word}={text}: a number, 0 or more{example and '; ' + example}")
    return value


def _people(text: str) -> int | None:
    if text and (not text.isdecimal() or len(text) > 9 or int(text) < 1):
        raise OpsError(f"PEOPLE={text}: how many people talk to it at the same time, as a whole number from 1 on")
    return int(text) if text else None


def _slo(text: str) -> Slo:
    """A preset, or `ttft=2,tpot=0.1`. Raises OpsError."""
    if not text:
        return Slo()
    try:
        wanted = slo.parse(text)
    except ValueError as wrong:
        raise OpsError(f"SLO={text}: {wrong}") from None
    if wanted.ttfo is not None or wanted.e2e is not None or wanted.ttft is None or wanted.tpot is None:
        raise OpsError(f"SLO={text}: people are counted by ttft and tpot, for example SLO=ttft=2,tpot=0.1")
    return Slo(ttft=wanted.ttft, tpot=wanted.tpot)


def _cards(text: str) -> tuple[float | None, dict[str, Any]]:
    """Of one card of this stack; and of cards by their names."""
    one: float | None = None
    cards: dict[str, float] = {}
    for part in text.split():
        name, _, price = part.rpartition("=")
        value = _float("GPU_PRICE", price, EXAMPLE)
        if name:
            try:
                cards[find(name).id] = value
            except DeviceError as wrong:
                raise OpsError(f"GPU_PRICE={part}: {wrong}") from None
        else:
            one = value
    return one, cards


def _api(text: str) -> tuple[float | None, float | None]:
    """Of a million tokens of prompts, and of answers; one price is of both."""
    if not text:
        return None, None
    example = "of a million tokens of prompts and of answers, for example API_PRICE=0.15/0.60"
    first, _, second = text.partition("/")
    return _float("API_PRICE", first, example), _float("API_PRICE", second or first, example)
