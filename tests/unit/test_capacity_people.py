"""People: what the formulas say is what a simulation in virtual time sees, and what binds is named for a reason."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest

from loadtests.workload.profiles import PROFILES
from stack.capacity.people import Binds, meet, people, within
from stack.capacity.roofline import Speed
from stack.capacity.serving import Serving
from stack.capacity.usage import ASSUMPTIONS, PeopleError, Slo, Usage, told

SLO = Slo()


def exactly(rate: float) -> Speed:
    return Speed(value=rate, low=rate, high=rate, basis="the test")


def serving(slots: int = 8, *, fixed: float = 0.020, each: float = 0.001, prefill: float = 4000.0) -> Serving:
    """A step takes `fixed` and `each` for each answer, seconds."""
    decode = tuple(exactly(n / (fixed + n * each)) for n in range(1, slots + 1))
    return Serving(decode=decode, prefill=exactly(prefill), context=8192, measured=True)


@dataclass
class Seen:
    """What simulated requests met: seconds, and requests a second."""

    ttft: list[float]
    tpot: list[float]
    throughput: float

    def at(self, part: float) -> tuple[float, float]:
        return (sorted(self.ttft)[int(part * len(self.ttft))], sorted(self.tpot)[int(part * len(self.tpot))])


def simulate(people: int, usage: Usage, of: Serving, ends: int, *, length: Callable[[random.Random], float]) -> Seen:
    """People before one engine in virtual time: slots in order, one prompt at a time before any answer goes on.

    `length` draws how much longer than on average an answer is.
    """
    chance = random.Random(5)
    rates = [speed.value for speed in of.decode]
    mean, spread = usage.prompt_tokens / of.prefill.value, usage.input_spread
    now, written, slots = 0.0, 0.0, len(rates)  # `written`: tokens of an answer that has been there from the start
    coming = [chance.expovariate(1 / usage.think_s) for _ in range(people)]
    heapq.heapify(coming)
    queue: deque[float] = deque()
    prompts: deque[float] = deque()  # when each was asked; the first is being computed
    answers: list[tuple[float, float, float]] = []  # `written` at the end, tokens, when the first came
    computed = math.inf
    ttft: list[float] = []
    tpot: list[float] = []
    while len(tpot) < ends:
        step = len(answers) / rates[len(answers) - 1] if answers else math.inf
        done = now + (answers[0][0] - written) * step if answers and not prompts else math.inf
        then = min(done, computed, coming[0] if coming else math.inf)
        if answers and not prompts:
            written += (then - now) / step
        now = then
        if coming and then == coming[0]:
            queue.append(heapq.heappop(coming))
        elif then == computed:
            asked = prompts.popleft()
            computed = now + mean * chance.lognormvariate(-(spread**2) / 2, spread) if prompts else math.inf
            tokens = max(usage.output_tokens * length(chance), 2.0)
            first = now + (len(answers) + 1) / rates[len(answers)]
            ttft.append(first - asked)
            heapq.heappush(answers, (written + tokens, tokens, now))
        else:
            written, tokens, first = heapq.heappop(answers)
            tpot.append((now - first) / tokens)
            heapq.heappush(coming, now + chance.expovariate(1 / usage.think_s))
        while queue and len(prompts) + len(answers) < slots:
            prompts.append(queue.popleft())
            if len(prompts) == 1:
                computed = now + mean * chance.lognormvariate(-(spread**2) / 2, spread)
    return Seen(ttft=ttft, tpot=tpot, throughput=ends / now)


LENGTHS = {
    "exponential": lambda chance: chance.expovariate(1),
    "log-normal": lambda chance: chance.lognormvariate(-0.32, 0.8),
    "fixed": lambda _: 1.0,
}
CASES = {
    "slots": (serving(8), Usage()),
    "prompts": (serving(16), Usage(input_tokens=2000)),
    "steps": (serving(32, each=0.003), Usage()),
}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("case", CASES)
def test_people_are_those_of_a_simulation(case: str, length: str) -> None:
    of, usage = CASES[case]
    said = people(usage, SLO, of)

    def holds(count: int) -> bool:
        ttft, tpot = simulate(count, usage, of, 6000, length=LENGTHS[length]).at(SLO.part)
        return ttft <= SLO.ttft and tpot <= SLO.tpot

    assert holds(round(said.planned * 0.88))
    assert not holds(round(said.planned * 1.12) + 1)


@pytest.mark.parametrize("case", CASES)
def test_what_they_meet_is_what_a_simulation_sees(case: str) -> None:
    of, usage = CASES[case]
    count = people(usage, SLO, of).planned
    for part in (count // 2, count):
        said = meet(part, usage, SLO, of)
        seen = simulate(part, usage, of, 20_000, length=LENGTHS["log-normal"])
        ttft, tpot = seen.at(SLO.part)
        assert said.requests == pytest.approx(seen.throughput, rel=0.03)
        assert said.ttft == pytest.approx(ttft, rel=0.25)
        assert said.tpot == pytest.approx(tpot, rel=0.15 if case == "prompts" else 0.1)


def test_one_person_meets_the_arithmetic() -> None:
    usage, of = Usage(input_spread=0), serving(4)
    said = meet(1, usage, SLO, of)
    assert said.wait == 0
    assert said.tpot == pytest.approx(0.021)
    assert said.ttft == pytest.approx(1155 / 4000 + 0.021)
    assert said.response == pytest.approx(1155 / 4000 + 211 * 0.021)
    assert said.requests == pytest.approx(1 / (45 + said.response))
    assert said.busy == pytest.approx(said.requests * said.response)
    assert said.working == pytest.approx(said.busy)
    varied = meet(1, Usage(input_spread=0.5), SLO, of)
    assert varied.requests == said.requests
    assert varied.ttft == pytest.approx(1155 / 4000 * math.exp(1.6449 * 0.5 - 0.125) + 0.021, rel=1e-4)


def test_more_people_are_served_worse_and_never_better() -> None:
    said = [meet(count, Usage(), SLO, serving(8)) for count in (1, 5, 10, 20, 40, 80)]
    assert all(less.ttft <= more.ttft and less.tpot <= more.tpot for less, more in pairwise(said))
    assert all(less.tokens < more.tokens and less.busy < more.busy <= 1 for less, more in pairwise(said))


def test_the_answer_is_the_last_that_holds() -> None:
    said = people(Usage(), SLO, serving(8))
    assert within(said.met, SLO)
    assert said.met.people == said.planned == said.active.value
    assert not within(meet(said.planned + 1, Usage(), SLO, serving(8)), SLO)
    assert said.named.value == 10 * said.active.value


def test_unmeasured_machines_are_planned_with_their_low_end() -> None:
    speeds = tuple(replace(one, low=one.value / 2, high=one.value * 1.1) for one in serving(8).decode)
    of = replace(serving(8), decode=speeds)
    measured, modelled = people(Usage(), SLO, of), people(Usage(), SLO, replace(of, measured=False))
    assert measured.active == modelled.active
    assert measured.active.low < measured.active.value <= measured.active.high
    assert measured.planned == measured.active.value
    assert modelled.planned == modelled.active.low
    assert modelled.met.tpot > measured.met.tpot


def test_engines_share_the_work() -> None:
    one = people(Usage(), SLO, serving(4)).planned
    two = people(Usage(), SLO, replace(serving(4), engines=2)).planned
    assert two > 2 * one  # one queue before both: nobody waits while a slot is free
    assert two == people(Usage(), SLO, replace(serving(4), engines=2, ceilings={"network": 1e9})).planned


BOUND = {
    Binds.SLOTS: (serving(2), Usage()),
    Binds.MEMORY: (replace(serving(2), room=False), Usage()),
    Binds.DECODE: (serving(32, each=0.003), Usage()),
    Binds.PREFILL: (serving(16, prefill=1000), Usage(input_tokens=1900, input_spread=0)),
    Binds.GATEWAY: (replace(serving(16), ceilings={"gateway": 40.0, "network": 1e6}), Usage()),
    Binds.ROUTER: (replace(serving(16), ceilings={"router": 40.0}), Usage()),
    Binds.NETWORK: (replace(serving(16), ceilings={"network": 40.0, "router": 50.0}), Usage()),
}


@pytest.mark.parametrize("binds", BOUND)
def test_what_binds_is_named_and_more_of_it_serves_more(binds: Binds) -> None:
    of, usage = BOUND[binds]
    said = people(usage, SLO, of)
    assert said.binds is binds
    assert said.why.startswith(f"With {said.planned + 1} active people")
    assert said.why.endswith(".")
    quick = {
        Binds.SLOTS: serving(3),
        Binds.MEMORY: serving(3),
        Binds.DECODE: serving(32, each=0.002),
        Binds.PREFILL: serving(16, prefill=2000),
    }
    if binds is Binds.DECODE:
        step = meet(said.planned + 1, usage, SLO, of).crowd
        assert said.why.endswith(f"the engine takes {20 + 3 * step} ms for a step of {step} answers.")
    freed = quick.get(binds, replace(of, ceilings={}))
    assert people(usage, SLO, freed).planned > said.planned


def test_not_even_one_is_said_as_such() -> None:
    slow = people(Usage(), SLO, serving(4, fixed=0.2))
    assert (slow.planned, slow.named.value, slow.binds) == (0, 0, Binds.DECODE)
    assert slow.why.startswith("Even one person alone: tokens come 201 ms apart, 100 ms are promised")
    late = people(Usage(input_tokens=1020, input_spread=0), SLO, serving(4, prefill=100))
    assert (late.planned, late.binds) == (0, Binds.PREFILL)
    assert "first tokens come after 10.2 s and more, 2 s are promised" in late.why


def test_answers_that_prompts_interrupt_are_bound_by_prompts() -> None:
    usage = Usage(input_tokens=3000, output_tokens=30)
    said = people(usage, Slo(ttft=30, tpot=0.2), serving(8, prefill=3000))
    assert said.binds is Binds.PREFILL
    assert said.why.endswith("because the prompts of others interrupt the answers.")


def test_every_number_says_where_it_is_from() -> None:
    rows = told(Usage(think_s=20))
    assert [row[0] for row in rows] == [one.label for one in ASSUMPTIONS.values()]
    assert [row[3] for row in rows if row[1] == 20] == ["given"]
    assert all(row[3] and row[2] for row in rows)


def test_people_are_by_default_those_of_the_load_profile_chat() -> None:
    usage, chat = Usage(), PROFILES["chat"]
    assert usage.input_tokens == pytest.approx(chat.prompt_tokens, rel=0.1)
    assert usage.output_tokens == pytest.approx(chat.output.mean, rel=0.05)
    assert usage.think_s == pytest.approx(chat.think.mean, rel=0.05)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Usage(cached=1), "cached: 1 cannot be"),
        (lambda: Usage(input_spread=-0.1), "input_spread"),
        (lambda: Usage(think_s=-1), "think_s"),
        (lambda: Usage(active_share=0), "above 0 to 1"),
        (lambda: Usage(output_tokens=math.nan), "output_tokens"),
        (lambda: Slo(ttft=0), "above 0 s"),
        (lambda: Slo(part=1), "between 0 and 1"),
        (lambda: replace(serving(2), decode=()), "at least one engine"),
        (lambda: replace(serving(2), prefill=exactly(0)), "speeds are above 0"),
        (lambda: replace(serving(2), ceilings={"network": 0}), "ceilings are above 0"),
        (lambda: people(Usage(input_tokens=8000), SLO, serving(2)), "make contextLength larger"),
        (lambda: meet(0, Usage(), SLO, serving(2)), "0 people"),
    ],
)
def test_what_cannot_be_is_refused_in_words(call: Callable[[], object], said: str) -> None:
    with pytest.raises(PeopleError, match=said):
        call()
