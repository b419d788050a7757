"""Money: the formulas by hand, prices that were not given are not there, and parts add up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from stack.capacity.cost import (
    ASSUMPTIONS,
    GATEWAY,
    Beside,
    CostError,
    Habits,
    Power,
    Prices,
    beside,
    bill,
    kwh_per_month,
    per_million,
    power,
    told,
)
from stack.capacity.devices import find
from stack.capacity.memory import GIB
from stack.capacity.steps import answer
from stack.capacity.usage import Slo, Usage
from tests.support.samples import ROOT
from tests.unit.test_capacity_steps import box

DRAWS = Power(busy=470, idle=80)
PRICES = Prices(currency="EUR", kwh=0.3, card=700, host=900, months=36, api_input=0.5, api_output=1.5)


def test_a_month_s_energy_is_busy_and_idle_hours() -> None:
    assert kwh_per_month(DRAWS, 1) == pytest.approx(0.730 * 470)
    assert kwh_per_month(DRAWS, 0) == pytest.approx(0.730 * 80)
    assert kwh_per_month(DRAWS, 0.25) == pytest.approx(0.730 * (0.25 * 470 + 0.75 * 80))


def test_a_million_tokens_take_so_many_joules() -> None:
    hours = 1e6 / 100 / 3600
    assert per_million(DRAWS, 100, 0.3) == pytest.approx(0.470 * hours * 0.3)
    with pytest.raises(CostError, match="says nothing"):
        per_million(DRAWS, 0, 0.3)


def test_power_is_of_all_cards_and_hosts() -> None:
    habits = Habits(host_busy_w=100, host_idle_w=40, card_idle_w=20)
    many = replace(box(), cards=2, hosts=3)
    assert power(many, habits) == Power(busy=6 * 350 + 300, idle=6 * 20 + 120)
    assert power(many, habits, 250) == Power(busy=6 * 250 + 300, idle=6 * 20 + 120)
    unknown = replace(box(), device=replace(find("nvidia-rtx-3090"), power=None))
    with pytest.raises(CostError, match="nvidia-rtx-3090: its power is not known"):
        power(unknown, habits)


def test_around_a_machine_of_its_own_there_is_no_host() -> None:
    """A DGX Spark was said to draw 276 W: its power supply has 240."""
    spark = box(device="nvidia-dgx-spark-gb10")
    assert power(spark, Habits()).busy == spark.device.power
    assert power(spark, Habits()).idle == Habits().card_idle_w
    assert bill(spark, Usage(), answer(spark, Usage(), Slo()).met, Habits(), PRICES).capital == PRICES.card


def test_the_bill_is_the_arithmetic() -> None:
    met = answer(box(), Usage(), Slo()).met
    habits = Habits(hours=200, load=0.4)
    one = bill(box(), Usage(), met, habits, PRICES)
    seconds = 200 * 0.4 * 3600
    assert one.tokens_out == pytest.approx(met.tokens * seconds / 1e6)
    assert one.tokens_in == pytest.approx(met.requests * 1155 * seconds / 1e6)
    assert one.kwh == pytest.approx(kwh_per_month(power(box(), habits), met.busy * 200 * 0.4 / 730))
    assert one.energy == pytest.approx(one.kwh * 0.3)
    assert one.capital == 1600
    assert one.energy_per_million == pytest.approx(per_million(power(box(), habits), met.tokens / met.busy, 0.3))
    assert one.total_per_million == pytest.approx((one.kwh * 0.3 + 1600 / 36) / one.tokens_out)
    assert one.api == pytest.approx(one.tokens_out * 1.5 + one.tokens_in * 0.5)


def test_it_pays_back_when_the_api_costs_more_than_electricity() -> None:
    met = answer(box(), Usage(), Slo()).met
    dear = bill(box(), Usage(), met, Habits(), replace(PRICES, api_input=5, api_output=20))
    assert dear.payback == pytest.approx(1600 / ((dear.api or 0) - (dear.energy or 0)))
    assert dear.why.startswith("1600 EUR are earned in")
    cheap = bill(box(), Usage(), met, Habits(), replace(PRICES, api_input=0.01, api_output=0.02))
    assert cheap.payback is None
    assert cheap.why.startswith("It never pays back: the API would cost")


def test_prices_that_were_not_given_are_left_out() -> None:
    met = answer(box(), Usage(), Slo()).met
    bare = bill(box(), Usage(), met, Habits(), Prices(currency="EUR"))
    assert bare.kwh > 0
    money = (bare.energy, bare.capital, bare.energy_per_million, bare.total_per_million, bare.api, bare.payback)
    assert money == (None,) * 6
    assert bare.why == (
        "No payback without the price of card and host and the price of electricity and the price of an API, "
        "for prompts and answers."
    )
    assert bill(box(), Usage(), met, Habits(), replace(PRICES, host=None)).capital is None


def test_what_is_needed_beside_the_cards_adds_up() -> None:
    models = [box(), replace(box("llama3.2:3b"), cards=2)]
    need = beside(models, people=30, tokens=GATEWAY)
    files = [one.known.shape.size for one in models]
    assert Beside.total(need.memory) == pytest.approx(
        2 * GIB + 5 * GIB + 3 * GIB + models[0].known.shape.embedding + max(files)
    )
    assert Beside.total(need.disk) == pytest.approx(sum(files) + max(files) + 60 * GIB + 30 * (GIB // 10))
    assert Beside.total(need.cores) == pytest.approx(3 + 1 + 2)
    assert all(part.source and part.what for part in (*need.memory, *need.disk, *need.cores))
    assert Beside.total(beside(models, people=30, tokens=1, services=0).memory) < Beside.total(need.memory)
    two_hosts = beside([replace(box(), hosts=2)], people=1, tokens=1)
    assert Beside.total(two_hosts.cores) == pytest.approx(1 + 0.1 + 2)


def test_what_the_gateway_passes_on_is_what_its_benchmark_says() -> None:
    assert f"{GATEWAY:,}" in (ROOT / "docs" / "benchmarks.md").read_text()


def test_every_number_says_where_it_is_from() -> None:
    rows = told(Habits(load=0.25))
    assert [row[0] for row in rows] == [one.label for one in ASSUMPTIONS.values()]
    assert [row[3] for row in rows if row[1] == 0.25] == ["given"]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: Habits(load=1.1), "share of the peak"),
        (lambda: Habits(hours=800), "730 hours"),
        (lambda: Habits(card_idle_w=-1), "watts"),
        (lambda: Prices(currency=" "), "currency with a name"),
        (lambda: Prices(currency="EUR", kwh=-0.1), "0 or more"),
        (lambda: Prices(currency="EUR", months=0), "months are above 0"),
        (lambda: beside([], people=1, tokens=1), "without a model"),
        (lambda: beside([box("llama3.3:70b")], people=1, tokens=1), "does not fit"),
    ],
)
def test_what_cannot_be_is_refused_in_words(call: Callable[[], object], why: str) -> None:
    with pytest.raises(CostError, match=why):
        call()
