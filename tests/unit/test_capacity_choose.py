"""What to buy: everybody is served by what is offered, cheapest first, with prices that say where they are from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from stack.capacity.box import serving
from stack.capacity.choose import Choice, ChooseError, Market, choose, not_planned
from stack.capacity.devices import devices, find
from stack.capacity.facts import model
from stack.capacity.fit import Settings
from stack.capacity.people import meet, within
from stack.capacity.usage import Slo, Usage

SETTINGS = Settings(context=8192, slots=1, flash_attention=True)
SOME = [
    find(f"nvidia-{name}")
    for name in ("rtx-3060", "rtx-5060-ti-16", "rtx-3090", "rtx-4090", "rtx-a6000", "a100-pcie-80", "tesla-p40", "a16")
]


def chosen(count: int = 20, name: str = "qwen3:8b", market: Market | None = None) -> Choice:
    return choose(count, model(name), SETTINGS, Usage(), Slo(), market or Market(currency="USD"), among=SOME)


def test_whatever_is_offered_serves_everybody_and_less_of_it_does_not() -> None:
    found = chosen()
    assert len(found.sure) >= 4
    for option in found.sure:
        box = option.box
        assert within(meet(20, Usage(), Slo(), serving(box, Usage()), "low"), Slo())
        assert option.active.low >= 20
        if box.cards > 1 and box.hosts == 1:
            fewer = replace(box, cards=box.cards // 2)
            assert not within(meet(20, Usage(), Slo(), serving(fewer, Usage()), "low"), Slo())
    for option in found.perhaps:
        assert option.active.low < 20 <= option.active.value
    assert "modelled" in found.label


def test_a_machine_is_told_with_all_that_it_can_serve() -> None:
    """Offered for 5 people it was said to serve 10, and twice the machine four times as many."""
    few = {option.box.name: option.active for option in chosen(2).sure}
    many = {option.box.name: option.active for option in chosen(20).sure}
    both = few.keys() & many.keys()
    assert len(both) >= 4
    assert {name: few[name] for name in both} == {name: many[name] for name in both}


def test_machines_of_their_own_stand_beside_each_other() -> None:
    spark = find("nvidia-dgx-spark-gb10")
    market = Market(currency="USD", cards={spark.id: 4000}, host=900)
    found = [choose(count, model("qwen3:8b"), SETTINGS, Usage(), Slo(), market, among=[spark]) for count in (5, 15)]
    offered = [option for one in found for option in (*one.sure, *one.perhaps)]
    assert {option.box.cards for option in offered} == {1}
    assert max(option.box.hosts for option in offered) == 2
    assert all(option.price == 4000 * option.box.hosts for option in offered)


def test_more_people_need_more_cards() -> None:
    cards = [
        {option.box.device.id: option.box.cards * option.box.hosts for option in chosen(count).sure}["nvidia-rtx-3090"]
        for count in (10, 40, 150)
    ]
    assert cards == sorted(cards)
    assert cards[0] == 1
    assert cards[-1] > 1


def test_cheapest_first_and_those_without_a_price_last() -> None:
    found = chosen()
    prices = [option.price for option in found.sure]
    known = [price for price in prices if price is not None]
    assert known == sorted(known)
    assert prices[len(known) :] == [None] * (len(prices) - len(known))
    assert {option.priced for option in found.sure} == {"at launch", "no price"}
    given = chosen(market=Market(currency="USD", cards={"nvidia-a100-pcie-80": 1.0}))
    assert (given.sure[0].box.device.id, given.sure[0].priced) == ("nvidia-a100-pcie-80", "given")


def test_launch_prices_are_dollars() -> None:
    assert {option.price for option in chosen(market=Market(currency="EUR")).sure} == {None}
    dollars, euros = chosen(), chosen(market=Market(currency="EUR", dollar=0.9))
    assert euros.sure[0].price == pytest.approx(0.9 * (dollars.sure[0].price or 0))


def test_hosts_and_electricity_count_when_they_have_a_price() -> None:
    bare, whole = chosen(), chosen(market=Market(currency="USD", host=900, kwh=0.3, months=24))
    assert {option.total for option in bare.sure} == {None}
    by_name = {option.box.name: option for option in bare.sure}
    for option in whole.sure:
        if option.price is not None:
            before = by_name[option.box.name].price
            assert before is not None
            assert option.price == before + 900 * option.box.hosts
            assert option.total == pytest.approx(option.price + 24 * 0.3 * (option.kwh or 0))
            assert option.watts == (option.box.device.power or 0) * option.box.cards + 120
    totals = [option.total for option in whole.sure if option.total is not None]
    assert totals == sorted(totals)


def test_cards_that_are_no_choice_say_why() -> None:
    refused = chosen().refused
    assert refused["nobody can say how quick it is"] == 1  # the P40: nobody published prompts of such cards
    assert refused["no card for this: data/not_planned.csv says why"] == 1  # the A16: four processors
    assert set(not_planned()) <= set(devices())
    assert chosen(2000).refused["two hosts with four cards each serve fewer than 2000"] > 3
    large = choose(1, model("deepseek-r1:671b"), SETTINGS, Usage(), Slo(), Market(currency="USD"), among=SOME)
    assert large.refused["no room for the model"] >= 4


def test_the_whole_table_is_looked_at() -> None:
    found = choose(10, model("qwen3:8b"), SETTINGS, Usage(), Slo(), Market(currency="USD"))
    named = {option.box.device.id for option in (*found.sure, *found.perhaps)}
    assert len(named) + sum(found.refused.values()) == len(devices())


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: chosen(0), "0 people"),
        (lambda: chosen(10**6), "between 1 and 5000"),
        (lambda: chosen(name="no-such-model"), "only guessed"),
        (lambda: chosen(name="somebody:13b"), "only guessed"),
        (lambda: chosen(name="bge-m3"), "for embeddings"),
        (lambda: Market(currency=""), "currency with a name"),
        (lambda: Market(currency="EUR", kwh=-1), "0 or more"),
        (lambda: Market(currency="EUR", dollar=0), "one US dollar"),
        (lambda: Market(currency="EUR", cards={"rtx": 1}), "'rtx' has a price and is no card"),
    ],
)
def test_what_cannot_be_chosen_is_refused_in_words(call: Callable[[], object], why: str) -> None:
    with pytest.raises(ChooseError, match=why):
        call()
