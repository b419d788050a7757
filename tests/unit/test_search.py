"""The search, in virtual time: servers whose knee is known, a thousand searches, no sleeping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pytest

from loadtests.analysis.search import Budget, Ending, Found, OutOfTime, Plan, Probe, ProbeResult, isotonic, search
from loadtests.analysis.stats import Sequential, Verdict

# Slots, seconds that an answer holds one, objective for the wait in seconds, requests of a final probe, and the rate at
# which 5% of the requests wait longer (from 10 million simulated ones each; checked below with fewer).
SERVERS: Final = [
    (4, 1.0, 0.5, 2000, 2.2344),
    (8, 1.0, 0.5, 2000, 5.9521),
    (2, 1.0, 2.0, 3000, 1.4150),
    (16, 1.0, 0.2, 1000, 11.8817),
]


def waits(rate: float, seed: int, n: int, slots: int, service: float, warm_up: int = 500) -> Any:
    """How long each of n requests waits for a slot: the law of the fake engine's knee (answers of one length, in turn).

    With answers of one length the slots are taken in rotation, so each is a queue of its own that numpy can add up.
    """
    rows = -(-(n + warm_up) // slots)
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, rows * slots)).reshape(rows, slots)
    work = np.arange(rows)[:, None] * service
    return (np.maximum.accumulate(arrivals - work, axis=0) + work - arrivals).ravel()[warm_up : warm_up + n]


def looks(budget: Budget, missed: Any) -> tuple[int, Verdict]:
    """When a probe with these misses ends, and how."""
    before, verdict = 0, Verdict.OPEN
    for n in (budget.requests // 8, budget.requests // 4, budget.requests // 2, budget.requests):
        verdict = budget.verdict({"ttft": int(missed[:n].sum())}, n, before)
        before = n
        if verdict is not Verdict.OPEN:
            break
    return (budget.requests if budget.test is None else before), verdict


def server(slots: int, service: float, slo: float) -> Probe:
    def probe(load: float, seed: int, budget: Budget) -> ProbeResult:
        missed = waits(load, seed, budget.requests, slots, service) > slo
        n, verdict = looks(budget, missed)
        return ProbeResult(load, seed, n, {"ttft": int(missed[:n].sum())}, verdict)

    return probe


def rates(**changes: Any) -> Plan:
    return Plan(**{"start": 1.0, "highest": 1000.0, "lowest": 0.01, **changes})


def coin(chance: Callable[[float], float]) -> Probe:
    """A server whose requests miss independently, with a chance that depends on the load."""

    def probe(load: float, seed: int, budget: Budget) -> ProbeResult:
        missed = np.random.default_rng(seed).random(budget.requests) < chance(load)
        n, verdict = looks(budget, missed)
        return ProbeResult(load, seed, n, {"ttft": int(missed[:n].sum())}, verdict)

    return probe


@pytest.mark.parametrize(("slots", "service", "slo", "requests", "true"), SERVERS)
def test_the_known_knees_are_right(slots: int, service: float, slo: float, requests: int, true: float) -> None:
    assert requests
    assert (waits(true, 99, 1_000_000, slots, service) > slo).mean() == pytest.approx(0.05, abs=0.0025)


def test_a_thousand_searches_find_the_knee_and_their_intervals_hold_it() -> None:
    inside, cautious, found = 0, 0, list[float]()
    for slots, service, slo, requests, true in SERVERS:
        for seed in range(1, 251):
            plan = rates(start=0.3 * slots, requests=requests, final_requests=requests, seed=seed)
            answer = search(plan, server(slots, service, slo))
            assert answer.load is not None, answer.why
            inside += true in answer.load
            cautious += bool(answer.caution)
            found.append(answer.load.value / true - 1)
    assert 930 <= inside <= 970, f"{inside} of 1000 intervals of 95% hold the true knee"
    assert cautious < 20
    assert abs(float(np.mean(found))) < 0.005
    assert np.quantile(np.abs(found), 0.95) < 0.05


def test_probes_that_are_too_short_for_the_queue_are_said_so() -> None:
    # Nine tenths of the capacity: the queue remembers longer than a probe of 600 requests lasts.
    cautions = [
        search(rates(start=10, requests=600, final_requests=600, seed=seed), server(16, 0.4, 0.3)).caution
        for seed in range(1, 21)
    ]
    assert sum(bool(one) for one in cautions) >= 15
    assert "give each probe more requests" in " ".join(cautions)


def test_users_are_whole_numbers() -> None:
    answer = search(
        rates(whole=True, start=1, lowest=1, highest=500), coin(lambda users: 1 / (1 + np.exp(-(users - 41) / 2)))
    )
    assert answer.ending is Ending.FOUND, answer.why
    assert answer.load is not None
    assert answer.load.value == pytest.approx(41 - 2 * 2.944, abs=1)
    assert all(one.load == int(one.load) for one in answer.probes + answer.finals)


def test_many_users_are_told_within_the_tolerance_not_to_the_head() -> None:
    answer = search(
        rates(whole=True, start=1, lowest=1, highest=5000), coin(lambda users: 1 / (1 + np.exp(-(users - 900) / 50)))
    )
    assert answer.load is not None, answer.why
    assert answer.load.value == pytest.approx(900 - 50 * 2.944, rel=0.05)
    assert len(answer.probes) < 18, "halving to the last user would take longer"
    assert all(one.load == int(one.load) for one in answer.probes + answer.finals)


class Limited:
    """A probe that may be asked so many times."""

    def __init__(self, probe: Probe, times: int) -> None:
        self.probe, self.left = probe, times

    def __call__(self, load: float, seed: int, budget: Budget) -> ProbeResult:
        self.left -= 1
        if self.left < 0:
            raise OutOfTime("15 min were over")
        return self.probe(load, seed, budget)


@pytest.mark.parametrize(
    ("times", "ending", "words"),
    [
        (0, Ending.UNCLEAR, "15 min were over: no load was seen to hold"),
        (2, Ending.UNCLEAR, "15 min were over: the objectives hold at 2"),
        (5, Ending.UNCLEAR, "15 min were over: the objectives hold at 8, they do not at 16"),
    ],
)
def test_a_search_whose_time_is_over_says_what_it_knows(times: int, ending: Ending, words: str) -> None:
    answer = search(rates(start=1), Limited(server(16, 1.0, 0.2), times))
    assert (answer.ending, answer.why) == (ending, words)
    assert answer.load is None
    assert len(answer.probes) == times


def test_repetitions_that_were_cut_short_still_tell_an_interval_with_a_caution() -> None:
    whole = search(rates(start=1), server(16, 1.0, 0.2))
    known = len(whole.probes)
    few = search(rates(start=1), Limited(server(16, 1.0, 0.2), known + 7))
    assert (few.ending, few.load) == (Ending.UNCLEAR, None), "two repetitions of a load tell no interval"
    enough = search(rates(start=1), Limited(server(16, 1.0, 0.2), known + 9))
    assert enough.ending is Ending.FOUND, enough.why
    assert enough.load is not None
    assert whole.load is not None
    assert enough.load.overlaps(whole.load)
    assert enough.caution == "15 min were over, before all repetitions were done"


def test_the_objective_that_is_missed_first_binds() -> None:
    def probe(load: float, seed: int, budget: Budget) -> ProbeResult:
        rng = np.random.default_rng(seed)
        ttft, tpot = ((rng.random(budget.requests) < min(1, (load / knee) ** 6 * 0.05)).sum() for knee in (30, 20))
        return ProbeResult(load, seed, budget.requests, {"ttft": int(ttft), "tpot": int(tpot)})

    answer = search(rates(), probe)
    assert answer.binds == "tpot"
    assert answer.load is not None
    assert answer.load.value == pytest.approx(20, rel=0.05)
    assert "tpot binds" in answer.why


def test_easy_probes_are_short_and_the_last_ones_repeated_with_other_seeds() -> None:
    answer = search(rates(), server(8, 1.0, 0.5))
    assert answer.probes[0].n < 2000
    assert len(answer.finals) >= 15
    assert len({one.seed for one in answer.probes + answer.finals}) == len(answer.probes + answer.finals)
    assert {one.n for one in answer.finals} == {2000}
    order = [one.load for one in answer.finals]
    assert order[:15] != sorted(order[:15])


def test_the_same_seed_gives_the_same_answer() -> None:
    first, again = (search(rates(seed=5), server(4, 1.0, 0.5)) for _ in range(2))
    assert first == again
    assert search(rates(seed=6), server(4, 1.0, 0.5)).load != first.load


def test_an_objective_that_can_never_hold_is_said_so() -> None:
    answer = search(rates(), coin(lambda _: 0.6))
    assert (answer.ending, answer.load) == (Ending.NONE, None)
    assert "ttft is missed by" in answer.why
    assert "no load keeps it" in answer.why


def test_a_load_that_always_holds_is_no_answer_but_a_bound() -> None:
    answer = search(rates(highest=64), coin(lambda _: 0.001))
    assert (answer.ending, answer.load) == (Ending.ALL, None)
    assert "still hold at 64" in answer.why


def few(requests: Callable[[float], int], missed: Callable[[float], int]) -> Probe:
    """Probes so short that they have only so many requests, of which so many miss."""

    def probe(load: float, seed: int, budget: Budget) -> ProbeResult:
        n, misses = requests(load), {"ttft": missed(load), "tpot": 0}
        return ProbeResult(load, seed, n, misses, budget.verdict(misses, n))

    return probe


def test_one_request_does_not_tell_that_no_load_keeps_it() -> None:
    plan = rates(whole=True, start=4, lowest=1, highest=64)
    answer = search(plan, few(round, lambda _: 1))
    assert [one.load for one in answer.probes] == [4, 2, 1]
    assert (answer.ending, answer.load, answer.binds) == (Ending.UNCLEAR, None, "ttft")
    assert answer.why.startswith("ttft was missed by 1 of 1 requests at 1, the lowest load, which settles neither ")
    assert "a longer search (BUDGET) has longer probes" in answer.why
    many = search(plan, few(lambda load: round(100 * load), lambda load: round(100 * load)))
    assert (many.ending, "no load keeps it" in many.why) == (Ending.NONE, True)


def test_a_lowest_load_that_misses_about_as_much_as_may_is_not_clear_either() -> None:
    answer = search(rates(start=1, lowest=1), few(lambda _: 2000, lambda _: 104))
    assert (answer.ending, answer.probes[-1].verdict) == (Ending.UNCLEAR, Verdict.OPEN)
    assert "ttft was missed by 104 of 2000 requests at 1, the lowest load" in answer.why


def test_a_handful_of_requests_does_not_tell_that_every_load_keeps_it() -> None:
    plan = rates(highest=64)
    answer = search(plan, few(lambda _: 12, lambda _: 0))
    assert (answer.ending, answer.load) == (Ending.UNCLEAR, None)
    assert "missed by 0 of 12 requests at 64, the highest load that was allowed, " in answer.why
    assert search(plan, few(lambda _: 2000, lambda _: 0)).ending is Ending.ALL


def test_a_probe_that_cannot_be_believed_ends_the_search_without_a_verdict() -> None:
    def probe(load: float, seed: int, budget: Budget) -> ProbeResult:
        assert budget.requests
        return ProbeResult(load, seed, 100, {"ttft": 0}, Verdict.PASS, invalid="the client was the bottleneck")

    answer = search(rates(), probe)
    assert (answer.ending, answer.load) == (Ending.INVALID, None)
    assert "the client was the bottleneck" in answer.why


def test_a_probe_that_says_nothing_once_is_tried_again_with_another_seed() -> None:
    seeds = list[int]()
    good = coin(lambda load: min(1.0, (load / 20) ** 6 * 0.05))

    def probe(load: float, seed: int, budget: Budget) -> ProbeResult:
        seeds.append(seed)
        if len(seeds) % 4 == 1:
            return ProbeResult(load, seed, 0, {"ttft": 0}, invalid="the client sends late")
        return good(load, seed, budget)

    answer = search(rates(), probe)
    assert answer.ending is Ending.FOUND, answer.why
    assert len(set(seeds)) == len(seeds)


def test_an_early_pass_takes_half_the_budget() -> None:
    budget = Budget(2000, Sequential(0.05, 2000))
    assert budget.verdict({"ttft": 0}, 999) is Verdict.OPEN
    assert budget.verdict({"ttft": 0}, 1000) is Verdict.PASS
    assert budget.verdict({"ttft": 200}, 250) is Verdict.FAIL


def test_no_request_completed_is_no_pass() -> None:
    answer = search(rates(), lambda load, seed, _: ProbeResult(load, seed, 0, {"ttft": 0}))
    assert answer.ending is Ending.INVALID
    assert "no request completed; a longer search (BUDGET) has longer probes" in answer.why


def test_a_server_that_changed_meanwhile_gets_no_interval() -> None:
    def probe(load: float, seed: int, budget: Budget) -> ProbeResult:
        knee = 8.0 if budget.test else 2.0
        missed = waits(load, seed, budget.requests, 8, 8 / knee) > 0.5
        n, verdict = looks(budget, missed)
        return ProbeResult(load, seed, n, {"ttft": int(missed[:n].sum())}, verdict)

    answer: Found = search(rates(), probe)
    assert (answer.ending, answer.load) == (Ending.UNCLEAR, None)


@pytest.mark.parametrize("wrong", [{"lowest": 0}, {"start": 2000}, {"repeats": 2}])
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"in this order|tell no interval"):
        rates(**wrong)


def test_the_isotonic_fit_is_the_nearest_growing_one() -> None:
    fit = isotonic(np.array([[1.0, 3.0, 2.0, 4.0], [4.0, 3.0, 2.0, 1.0]]), np.array([[1.0, 1.0, 3.0, 1.0]]))
    assert fit[0] == pytest.approx([1, 2.25, 2.25, 4])
    assert fit[1] == pytest.approx([14 / 6] * 4)


def test_a_probe_passes_by_all_objectives_and_fails_by_one() -> None:
    budget = Budget(1000, Sequential(0.05, 1000))
    assert budget.verdict({"ttft": 5, "tpot": 5}, 1000) is Verdict.PASS
    assert budget.verdict({"ttft": 5, "tpot": 50}, 1000) is Verdict.OPEN
    assert budget.verdict({"ttft": 5, "tpot": 200}, 1000) is Verdict.FAIL
    assert budget.verdict({"ttft": 5, "tpot": 5}, 1000, 0, {"tpot": 60}) is Verdict.OPEN
