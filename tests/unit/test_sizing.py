"""Sizing: what a load run tells of a machine is what the machine is, and the answer says where it is from."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from loadtests.report import files as reports
from loadtests.results import store
from loadtests.results.schema import Answer as Search
from loadtests.sizing import check, files, measured, sized, words
from loadtests.sizing.check import HeldOut
from loadtests.sizing.measured import CannotSize, Run
from loadtests.sizing.sized import Asked, Sized
from stack.capacity import box as boxes
from stack.capacity import calibrate, roofline
from stack.capacity.choose import Market
from stack.capacity.cost import Prices
from stack.capacity.devices import find
from stack.capacity.facts import model
from stack.capacity.fit import Settings
from stack.capacity.people import Range
from stack.capacity.serving import Speeds
from stack.capacity.usage import Slo
from tests.support.boxes import BETWEEN, Box
from tests.unit.test_report import Shape

USERS = (1, 2, 4, 8)


def rows(box: Box) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(store.to_csv(box.records))))


@cache
def sweep(*users: int) -> Box:
    box = Box()
    for count in users or USERS:
        box.hold(count)
    return box


@cache
def run(*users: int) -> Run:
    return measured.of("sweep", sweep(*users).result(), rows(sweep(*users)))


def planned(device: str = "nvidia-rtx-4090", slots: int = 4) -> boxes.Box:
    known = model("qwen3:14b")
    assert known is not None
    return boxes.Box(known=known, device=find(device), settings=Settings(context=8192, slots=slots))


@cache
def answered(kind: str) -> Sized:
    asked = Asked(prices=Prices(currency="EUR", kwh=0.3, card=1600, host=900, api_input=0.15, api_output=0.6))
    at = planned()
    match kind:
        case "plan":
            return sized.size("dev", "2026-01-02T03:04Z", asked, box=at, known=at.known, settings=at.settings)
        case "run":
            return sized.size("dev", "2026-01-02T03:04Z", asked, runs=[run()], model="<b>small</b>")
        case "both":
            return sized.size("dev", "2026-01-02T03:04Z", asked, runs=[run()], box=at)
    hurry = replace(asked, slo=Slo(ttft=0.01, tpot=0.1))
    return sized.size("dev", "2026-01-02T03:04Z", hurry, runs=[run(1, 4)])


KINDS = ("plan", "run", "both", "nobody")


def test_each_load_of_a_run_is_told_from_the_others() -> None:
    asked = Counter(one.intended_ns // round(1e9 * (200 + BETWEEN)) for one in sweep().records)
    assert [len(part.rows) for part in run().parts] == [asked[number] for number in range(len(USERS))]
    assert [part.users for part in run().parts] == list(USERS)


def test_a_request_belongs_to_the_load_that_was_held_when_it_was_asked() -> None:
    told = run()
    for before, part in pairwise(told.parts):
        edge = part.level.held[0]
        assert max(float(row["intended_s"]) for row in before.rows) < edge
        assert float(part.rows[0]["intended_s"]) == edge
    assert [row for part in told.parts for row in part.rows] == list(told.rows), "each once"


def test_what_is_learned_is_what_the_machine_is() -> None:
    box = sweep()
    fitted = measured.fit(run().parts, run().rows, 4, context=4096)
    truth = [n / (box.fixed + n * box.each) for n in range(1, box.slots + 1)]
    assert [one.value for one in fitted.serving.decode] == pytest.approx(truth, rel=0.05)
    assert 400 / fitted.serving.prefill.value == pytest.approx(box.prompt, rel=0.05)
    assert fitted.usage.think_s == pytest.approx(box.think, rel=0.1)
    assert (fitted.usage.output_tokens, fitted.usage.input_tokens) == (60, 400)


def test_a_search_tells_how_long_people_think_too() -> None:
    searched = measured.of("search", sweep().result(SHAPE="search"), rows(sweep()))
    assert [part.rows for part in searched.parts] == [()] * len(USERS)
    fitted = measured.fit(searched.parts, searched.rows, 4, context=4096)
    assert fitted.usage.think_s == pytest.approx(sweep().think, rel=0.15)
    assert check.held_out(searched, context=4096) == ()


def asking_documents(told: list[dict[str, str]], seconds: float = 0.3) -> list[dict[str, str]]:
    """The same, with an embedding that ends just before each question, as `rag` asks it."""
    looked = [
        {**row, "scenario": "rag question", "model": "embedding", "asked_tokens": "0", "output_tokens": "",
         "ttft_ms": "", "tpot_ms": "", "e2e_ms": f"{1000 * seconds}",
         "intended_s": f"{float(row['intended_s']) - seconds}"}
        for row in told
    ]  # fmt: skip
    return sorted([*told, *looked], key=lambda row: float(row["intended_s"]))


def test_people_who_ask_documents_talk_to_one_model() -> None:
    """Such a run always has two models, so it could not be sized."""
    box = sweep()
    plain, both = (measured.of("run", box.result(), told) for told in (rows(box), asking_documents(rows(box))))
    assert {row["model"] for row in both.rows} == {"default"}
    thinks = [sized.size("dev", "", Asked(), runs=[one]).answer.usage.think_s for one in (plain, both)]
    assert thinks[1] == pytest.approx(thinks[0])


def test_a_search_with_embeddings_tells_how_long_people_think_between_answers() -> None:
    box = Box()
    box.hold(4)
    told, level = rows(box), box.levels[0]
    looked, e2e = asking_documents(told, seconds=0.0), level.metrics["e2e"]
    # A report counts both kinds: twice the requests, of half the mean time.
    twice = level.model_copy(
        update={
            "requests_per_second": 2 * level.requests_per_second,
            "metrics": {**level.metrics, "e2e": e2e.model_copy(update={"mean": e2e.mean / 2})},
        }
    )
    found = []
    for levels, listed in (([level], told), ([twice], looked)):
        result = box.result(SHAPE="search").model_copy(update={"levels": levels})
        found.append(sized.size("dev", "", Asked(), runs=[measured.of("run", result, listed)]).answer.usage.think_s)
    assert found[1] == pytest.approx(found[0], rel=0.02)


def test_a_run_of_embeddings_alone_says_what_to_run() -> None:
    told = [{**row, "asked_tokens": "0"} for row in rows(sweep())]
    with pytest.raises(CannotSize, match=r"embeddings only(.|\n)*PROFILE=chat"):
        measured.of("run", sweep().result(), told)


def test_what_a_rate_cannot_tell_is_said_to_be_assumed() -> None:
    by_rate = measured.of("rate", sweep().result(UNIT="requests/s"), rows(sweep()))
    said = {row[2]: row[3] for row in words.assumptions(sized.size("dev", "", Asked(), runs=[by_rate]))[1]}
    assert said["INPUT"] == "the load run"
    assert "assumption" in said["THINK"]


def test_a_load_that_was_left_out_is_predicted_within_15_percent() -> None:
    held = check.held_out(run(), context=4096)
    assert [one.label for one in held] == ["2 users", "4 users", "8 users"]
    assert {one.word for one in held} == {"PASS"}
    assert max(abs(one.off or 0) for one in held) < 0.08
    assert all(one.label not in one.fitted_on for one in held)


def test_a_prediction_is_held_against_the_figure_of_the_report() -> None:
    """The check had a window of its own, a quarter later than the load's beginning."""
    told = {level.label: level.tokens_per_second for level in run().result.levels}
    assert {one.label: one.measured for one in check.held_out(run(), context=4096)}.items() <= told.items()


def test_a_load_at_which_the_machine_was_another_one_fails_the_check() -> None:
    box = Box()
    for count in (1, 2, 4):
        box.hold(count)
    box.fixed, box.each = 0.024, 0.008
    box.hold(8)
    last = check.held_out(measured.of("throttled", box.result(), rows(box)), context=4096)[-1]
    assert (last.label, last.word) == ("8 users", "FAIL")
    assert (last.off or 0) > 0.15


def test_what_stops_a_machine_now_and_then_counts_although_most_answers_do_not_show_it() -> None:
    box = Box(stall=0.004)
    for count in USERS:
        box.hold(count)
    told = measured.of("stalls", box.result(), rows(box))
    fitted = measured.fit(told.parts, told.rows, 4, context=4096)
    assert measured.throughput(told.parts[-1], fitted) == pytest.approx(told.parts[-1].level.tokens_per_second, rel=0.1)
    assert {one.word for one in check.held_out(told, context=4096)} == {"PASS"}
    assert "slower than its single answers say" in fitted.notes[0]


def test_two_loads_are_not_checked() -> None:
    assert check.held_out(run(1, 4), context=4096) == ()


def test_predictions_hold_at_the_edges_of_what_is_allowed() -> None:
    def word(predicted: float) -> str:
        return HeldOut(label="", fitted_on=(), predicted=predicted, measured=100.0).word

    assert [word(84.9), word(85.1), word(114.9), word(115.1)] == ["FAIL", "PASS", "PASS", "FAIL"]
    assert HeldOut(label="", fitted_on=(), predicted=None, measured=100.0).word == "n/a"


def test_slots_beyond_what_was_seen_are_not_counted_on() -> None:
    fitted = measured.fit(run(1, 2).parts, run(1, 2).rows, 16, context=4096)
    assert len(fitted.serving.decode) == 4
    assert "16 slots are configured and at most 2 answers were seen" in fitted.notes[0]


def test_a_run_that_tells_too_little_says_which_one_would() -> None:
    with pytest.raises(CannotSize, match=r"(?s)two numbers of answers.*USERS=1,2,4,8"):
        measured.fit(run(1).parts, run(1).rows, 4, context=4096)
    crowd = [row for row in run().rows if row not in run(1).rows][-200:]
    with pytest.raises(CannotSize, match=r"(?s)met nobody else at work.*USERS=1,2,4,8"):
        measured.fit(run().parts, crowd, 4, context=4096)


def written(folder: Path, lag: float = 0.001) -> Path:
    store.write(folder, reports.render(sweep(1, 4).result(lag), sweep(1, 4).records))
    return folder


def test_a_run_comes_back_from_its_folder(tmp_path: Path) -> None:
    read = measured.read(written(tmp_path / "a"))
    assert (read.name, read.slots, len(read.parts)) == ("a", 4, 2)


def test_a_run_whose_client_was_the_bottleneck_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(CannotSize, match=r"loop lag p99.*PROCESSES=2"):
        measured.read(written(tmp_path / "a", lag=0.5))


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotSize, match=re.escape(f"RUN={tmp_path}")):
        measured.read(tmp_path)


def test_damaged_rows_are_no_run() -> None:
    with pytest.raises(CannotSize, match="rows that no load run writes"):
        measured.of("a", sweep().result(), [{"intended_s": "x"}])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda table: table[:-40], "requests.csv, line .* was it cut"),
        (lambda table: table.replace(",400,0,", ",nan,0,", 1), "requests.csv, line 2 .*input_tokens: 'nan'"),
        (lambda table: table + "x" * 200_000, "requests.csv, line .*field larger than"),
    ],
    ids=["cut", "nan", "huge"],
)
def test_a_damaged_run_is_told_with_its_file(tmp_path: Path, damage: Callable[[str], str], words: str) -> None:
    table = written(tmp_path / "a") / "requests.csv"
    table.write_text(damage(table.read_text()))
    with pytest.raises(CannotSize, match=f"RUN={re.escape(str(tmp_path))}.*{words}.*run the test again"):
        measured.read(tmp_path / "a")


@pytest.mark.parametrize("loads", ["6.0.1", "many", "9" * 400, "0", "-3", "nan"])
def test_a_load_that_is_none_is_told(loads: str) -> None:
    result = sweep(1, 4).result(SHAPE="hold", LOADS=loads).model_copy(update={"levels": []})
    with pytest.raises(CannotSize, match=r"a: result\.json has .*run it again"):
        measured.of("a", result, rows(sweep(1, 4)))


def test_a_load_in_a_level_that_nobody_makes_is_told() -> None:
    result = sweep(1, 4).result()
    wrong = result.model_copy(update={"levels": [result.levels[0].model_copy(update={"load": 0.4})]})
    with pytest.raises(CannotSize, match=r"result\.json has a load of 0\.4"):
        measured.of("a", wrong, rows(sweep(1, 4)))


def test_a_unit_that_is_none_is_told() -> None:
    with pytest.raises(CannotSize, match=r"a: result\.json has UNIT 'x'"):
        measured.of("a", sweep(1, 4).result(UNIT="x"), rows(sweep(1, 4)))


def test_slots_that_cannot_be_are_not_known() -> None:
    assert measured.of("a", sweep(1, 4).result(**{"engine.parallel": "9" * 5000}), rows(sweep(1, 4))).slots is None


def test_runs_of_different_engines_are_not_mixed() -> None:
    with pytest.raises(CannotSize, match=r"different numbers of slots .4, 8."):
        sized.size("dev", "", Asked(), runs=[run(), replace(run(), slots=8)])


def test_two_runs_tell_as_much_as_one_with_both() -> None:
    apart = sized.size("dev", "", Asked(), runs=[run(1, 2), run(4, 8)]).answer.active
    together = sized.size("dev", "", Asked(), runs=[run()]).answer.active
    assert abs(apart.value - together.value) <= 1


def test_without_a_plan_or_a_run_it_says_how_to_get_one() -> None:
    with pytest.raises(CannotSize, match="make load STACK=dev USERS=1,2,4,8"):
        sized.size("dev", "", Asked())


def test_the_answer_is_where_the_machine_breaks_its_promise() -> None:
    """The machine itself, asked: with so many people it keeps 2 s, with a quarter more it does not."""
    active = answered("run").answer.active
    assert active.low <= active.value <= active.high
    fewer, more = (Box().hold(count, 900).levels[0].metrics["ttft"].p95 for count in (active.low, active.high * 5 // 4))
    assert fewer < 2.0 < more


def test_the_sentence_comes_first_and_says_where_it_is_from() -> None:
    said = {kind: words.headline(answered(kind)) for kind in KINDS}
    active = answered("run").answer.active
    assert said["run"].startswith(
        f"This box serves about {active.value} people at once ({active.low} to {active.high})"
    )
    assert said["plan"].startswith(f"Plan with {answered('plan').answer.active.low} people")
    assert said["nobody"].startswith("This box does not serve even one person")
    assert "Modelled" in words.basis(answered("plan"))
    assert "Measured on this machine by sweep" in words.basis(answered("both"))


def test_what_a_search_found_goes_first_when_it_was_asked_the_same() -> None:
    found = Search(unit="users", ending="found", value=31.4, low=27.2, high=34.9, confidence=0.95, binds="ttft", why="",
                   caution="", probes=[])  # fmt: skip
    searched = replace(run(1, 4), result=run(1, 4).result.model_copy(update={"answer": found, "verdict": "pass"}))
    same = sized.size("dev", "", Asked(), runs=[searched])
    assert words.headline(same).startswith("This box serves about 31 people at once (27 to 34)")
    doubted = replace(searched, result=searched.result.model_copy(update={"verdict": "none", "reason": "it drifts"}))
    doubts = sized.size("dev", "", Asked(), runs=[doubted])
    assert doubts.found is None
    assert any("concludes nothing by itself: it drifts" in note for note in doubts.notes)
    for other in (Asked(slo=Slo(ttft=1.0)), Asked(usage={"think_s": 90.0})):
        assert sized.size("dev", "", other, runs=[searched]).found is None


def test_an_assumption_that_is_given_goes_before_what_was_measured() -> None:
    slow = sized.size("dev", "", Asked(usage={"think_s": 60.0}), runs=[run(1, 4)])
    assert slow.answer.active.value > 3 * answered("run").answer.active.value
    said = {row[2]: row for row in words.assumptions(slow)[1]}
    assert (said["THINK"][3], said["INPUT"][3]) == ("given", "the load run")


def test_a_guessed_model_is_said_to_be_guessed() -> None:
    at = planned()
    guess = model("nobody-knows-this:13b")
    assert guess is not None
    assert guess.guessed
    made = sized.size("dev", "", Asked(), box=replace(at, known=guess), known=guess, settings=at.settings)
    assert any("guessed from its name" in note for note in made.notes)
    assert not any("guessed" in note for note in answered("plan").notes)


def test_a_calibrated_machine_is_not_said_to_be_all_published() -> None:
    at = planned()
    load = roofline.work(at.known.shape)
    runs = [calibrate.Run(model=at.known.shape.name, load=load, depth=512, rate=70.0)]
    here = replace(at, machine=calibrate.calibrate(roofline.card(at.device), runs))
    made = sized.size("dev", "", Asked(), box=here, known=at.known, settings=at.settings)
    assert "this machine was measured to do" in words.basis(made)
    assert "this machine was measured" not in words.basis(answered("plan"))


def test_what_was_not_looked_at_is_said() -> None:
    """The gateway, a router and the network could never stop anything, and the report did not say so."""
    planned, ran = (dict(words.looked(answered(kind))[1]) for kind in ("plan", "run"))
    assert planned.keys() == {"memory", "slots", "prompts", "answers", "gateway", "router", "network"}
    assert (planned["router"], planned["network"]) == ("not present", "not looked at")
    assert planned["memory"] == "room for another slot"
    assert ran["memory"].startswith("not known")
    # 0.2 ms of a core for each token: a thousand tokens a second are a fifth of one.
    answer = answered("run").answer
    fast = replace(answered("run"), answer=replace(answer, met=replace(answer.met, tokens=1_000.0)))
    assert "about 20.0% of a core" in dict(words.looked(fast)[1])["gateway"]
    for text in files.render(answered("run"), {}, "").values():
        assert "not looked at" in text


def test_nobody_is_no_number_of_accounts() -> None:
    assert words.accounts(answered("nobody")) == ""
    assert "people may have one" in words.accounts(answered("plan"))


def test_two_equal_ends_are_one_number() -> None:
    answer = answered("plan").answer
    one = replace(answer, active=Range(low=4, value=4, high=4), planned=4)
    assert words.headline(replace(answered("plan"), answer=one)).endswith("with qwen3:14b; nobody has measured it yet.")


def test_prices_at_launch_need_a_rate_of_the_dollar() -> None:
    for market, asks in ((Market(currency="EUR"), True), (Market(currency="EUR", dollar=0.9), False)):
        made = replace(answered("plan"), asked=Asked(market=market))
        assert ("DOLLAR=" in words.buying(made)) is asks


def test_a_run_with_several_engines_is_not_taken() -> None:
    """Its slots were counted as one engine's, its answers at once as all engines'."""
    result = sweep().result(**{"engine.instances": "2"})
    with pytest.raises(CannotSize, match=r"2 engines shared the answers"):
        measured.of("two", result, rows(sweep()))


def test_every_assumption_has_a_word_that_changes_it() -> None:
    _, listed = words.assumptions(answered("both"))
    assert len(listed) == len(words.WORDS) + 2
    assert all(row[2] for row in listed)


def test_more_slots_are_offered_as_far_as_the_measurements_tell() -> None:
    best = sized.best_slots(answered("run"))
    assert best is not None
    assert 4 < best <= 8, "twice what was seen"
    fitted = answered("run").fitted
    assert fitted is not None
    assert measured.more_slots(fitted, 9) is None
    assert any(one.what.startswith(f"{best} slot") or f"({best})" in one.what for one in answered("run").changes)


def test_the_plan_and_the_run_are_told_apart_in_the_next_steps() -> None:
    assert {one.measured for one in answered("both").changes} == {True, False}
    assert {one.measured for one in answered("plan").changes} == {False}


def test_what_costs_what_is_there_with_a_plan() -> None:
    bill = answered("plan").bill
    assert bill is not None
    assert bill.energy == pytest.approx(bill.kwh * 0.3)
    assert answered("run").bill is None
    assert "engine.hardware" in words.payback(answered("run"))
    assert answered("plan").choice is not None
    assert words.bought(answered("plan"))[1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_sound_and_loads_nothing(kind: str) -> None:
    made = answered(kind)
    text = files.render(made, {}, "--- a/<script>\n")["report.html"]
    shape = Shape(text)
    assert shape.loads == []
    assert not re.search(r"url\(|@import|<script|<b>small", text)
    assert not re.search(r"\bnan\b|\binf\b|None\b(?!:)", re.sub(r"<style>.*?</style>", "", text))
    body = " ".join(shape.words)
    first = body.index(words.headline(made))
    assert first < body.index("What is assumed") < body.index("What to buy")


def test_an_answer_is_written_without_computing_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every machine that could be bought was computed anew for each file, for minutes."""
    made = answered("plan")
    assert made.choice is not None
    assert len(made.choice.sure) > 20
    monkeypatch.setattr("stack.capacity.people.closed", lambda *_: pytest.fail("a queue was computed"))
    assert len(json.loads(files.render(made, {}, "")["size.json"])["buy"]["sure"]) == len(made.choice.sure)


@pytest.mark.parametrize("kind", KINDS)
def test_the_figures_and_the_summary_are_sound(kind: str) -> None:
    written = files.render(answered(kind), {"engine.parallel": 8}, "")
    content = json.loads(written["size.json"])
    assert (content["version"], content["proposed"]) == (1, {"engine.parallel": 8})
    assert content["active"]["low"] <= content["planned"] <= content["active"]["high"]
    assert not re.search(r"\bnan\b|\binf\b|NaN|Infinity", written["size.json"] + written["summary.md"])
    assert written["summary.md"].startswith("## ")
    assert not re.search(r"(?<!\\)<", written["summary.md"]), "a model's name is no markup"
    assert written == files.render(answered(kind), {"engine.parallel": 8}, "")


def test_predictions_of_a_rate_stop_at_what_the_machine_can_do() -> None:
    fitted = measured.fit(run().parts, run().rows, 4, context=4096)
    few, many = (
        replace(run().parts[0], users=None, level=run().parts[0].level.model_copy(update={"load": load}))
        for load in (0.1, 100.0)
    )
    assert measured.throughput(few, fitted) == pytest.approx(6.0)
    assert measured.throughput(many, fitted) == pytest.approx(
        60 * Speeds(fitted.serving, fitted.usage, "value").ends(4)
    )
