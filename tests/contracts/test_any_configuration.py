"""Whatever the configuration allows renders to routes that keep every law over them."""

from __future__ import annotations

import json
from typing import cast

from hypothesis import HealthCheck, given, settings

from stack.config.model import Platform
from stack.gateway.consumers import BOUNDS
from tests.contracts.laws import broken, laws
from tests.support.platforms import Rendered, platforms
from tests.support.recorder import Plan

ROUTING = {name: law for name, law in laws().items() if name.startswith("routing.")}


def test_there_are_laws_to_keep() -> None:
    assert len(ROUTING) >= 10


@settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(platforms())
def test_its_routes_keep_every_law(platform: Platform) -> None:
    plan = cast(Plan, Rendered(platform))
    assert [problem for law in ROUTING.values() for problem in broken(law, plan)] == []


@settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(platforms())
def test_every_number_of_its_consumers_is_one_that_the_gateway_takes(platform: Platform) -> None:
    for consumer in json.loads(Rendered(platform).consumers())["consumers"]:
        numbers = {name: value for name, value in consumer.items() if type(value) in (int, float)}
        beyond = {name: value for name, value in numbers.items() if not BOUNDS[name][0] <= value <= BOUNDS[name][1]}
        assert beyond == {}
