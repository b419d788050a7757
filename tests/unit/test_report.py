"""The report: the sentence first, gates on top, nothing from outside becomes markup, nothing is loaded."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.analysis import gates, search, slo
from loadtests.analysis.gates import Client, Server
from loadtests.analysis.stats import Interval, Verdict
from loadtests.records import Outcome, Record
from loadtests.report import files, markdown, page, svg, words
from loadtests.results import build, figures, store
from loadtests.results.schema import Answer, Environment, Result, Series
from tests.support.records import failed, record, run

PEOPLE = slo.preset("people")
NASTY = "<script>alert('x')</script>|`@all"


def built(records: list[Record], client: Client | None = None, **changes: Any) -> Result:
    quiet = Client(lag=0.001, cpu=0.2, dropped=0, clock=0.0)
    checks = gates.check(records, PEOPLE, client=client or quiet, server=Server(warm=True))
    given = {"title": "chat", "started": "2026-01-02T03:04:05Z", "checks": checks, **changes}
    place = Environment(
        target="https://localhost:8443", hardware={"GPU": NASTY}, versions={}, configuration={}, seeds={"workload": 1}
    )
    return build.result(records, PEOPLE, place, **given)


def answer(ending: search.Ending = search.Ending.FOUND, whole: bool = True) -> Answer:
    probe = search.ProbeResult(30.0, 3, 400, {"ttft": 22}, Verdict.OPEN)
    load = Interval(31.4, 27.2, 34.9) if ending is search.Ending.FOUND else None
    found = search.Found(ending, load, "ttft is missed by 60% even at 1", (probe,), (probe,), "ttft")
    return build.answer(found, search.Plan(start=1, lowest=1, highest=64, whole=whole))


def full() -> Result:
    levels = [figures.level(f"{n} users", n, run(rate=n), PEOPLE) for n in (10, 20, 30)]
    power = Series(name="GPU power", unit="W", points=[(0, 300), (5, 310)])
    return built(run(), levels=levels, series=[power], found=answer())


class Shape(HTMLParser):
    """Tags that must close do, in order; and every address that a page could load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in {"src", "href", "srcset", "action", "data"}]
        if tag in {"script", "link", "iframe", "img", "object", "embed"}:
            self.loads.append(tag)
        if tag not in {"meta", "line", "rect", "circle"} or self.get_starttag_text()[-2:] != "/>":  # type: ignore[index]
            self.open.append(tag) if tag != "meta" else None

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


CASES = {
    "full": full,
    "stopped": lambda: built(run(60), stopped=NASTY, title=NASTY),
    "nothing": lambda: built([]),
    "only errors": lambda: built([failed(k * 50.0, error=NASTY) for k in range(80)]),
    "one request": lambda: built([record()]),
    "no gates": lambda: built(run(), checks=()),
    "embeddings": lambda: built([record(k * 50.0, tokens=0) for k in range(80)]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_sound_and_loads_nothing(case: str) -> None:
    made = CASES[case]()
    text = page.render(made)
    shape = Shape(text)
    assert shape.loads == []
    assert not re.search(r"url\(|@import|https?://(?!localhost)", text)
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert not re.search(r"\bnan\b|\binf\b|None", re.sub(r"<style>.*?</style>", "", text))
    body = " ".join(shape.words)
    assert words.headline(made) in body


@pytest.mark.parametrize("case", CASES)
def test_the_summary_is_sound(case: str) -> None:
    made = CASES[case]()
    text = markdown.render(made)
    assert text.startswith({"pass": "## PASS", "fail": "## FAIL", "none": "## NO VERDICT"}[made.verdict])
    assert "<script" not in text.replace("\\<", "")
    assert "@all" not in text
    assert not re.search(r"\bnan\b|\binf\b|None", text)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {7}


def test_verdict_and_gates_stand_above_the_figures() -> None:
    text = page.render(full())
    places = [text.index(one) for one in ('class="verdict', ">PASS<", 'class="gates"', 'class="cards"', "<svg")]
    assert places == sorted(places)
    for name in ("steady state", "Little&#x27;s law", "late sends", "loop lag p99", "client CPU", "tokens reconciled",
                 "answer length", "cache honesty", "model warm", "errors"):  # fmt: skip
        assert name in text


def test_every_plot_of_a_full_run_is_there() -> None:
    text = page.render(full())
    for title in (
        "Share of requests that missed, over load", "Time to first token, over load",
        "Time per output token, over load", "Throughput over concurrency", "Goodput over load",
        "Time to first token, over time", "Throughput, over time", "Time to first token of every request", "GPU power",
    ):  # fmt: skip
        assert f"<figcaption>{title}</figcaption><svg" in text
    assert "not present: no Prometheus" in page.render(built(run()))


def test_the_sentence_names_people_interval_and_what_binds() -> None:
    assert words.headline(built(run(), found=answer())) == (
        "This serves 31 people at once (95% interval 27 to 34) with time to first token at most 2 s and time per "
        "output token at most 100 ms for 95% of the requests; what is missed first is time to first token."
    )
    careful = answer().model_copy(update={"caution": "probes differ"})
    assert words.headline(built(run(), found=careful)).endswith("time to first token. Caution: probes differ.")
    assert "31.4 requests/s (95% interval 27.2 to 34.9)" in words.headline(built(run(), found=answer(whole=False)))


def test_the_sentence_never_promises_what_was_not_found() -> None:
    none = words.headline(built(run(), found=answer(search.Ending.NONE)))
    assert none.startswith("No highest load can be named: ttft is missed")
    busy = words.headline(built(run(), client=Client(cpu=0.9), found=answer()))
    assert busy.startswith("Nothing can be concluded from this run: the client was the bottleneck")
    assert "serves" not in words.headline(built([], found=answer()))
    assert "did not hold" in words.headline(built(run(itl=200.0)))


def test_what_went_wrong_is_said_on_every_surface_and_harmless() -> None:
    made = built([*run(), *(failed(k * 10.0, error=NASTY) for k in range(3)), failed(7.0, Outcome.LIMIT)])
    assert words.troubles(made)[0] == f"3 failed: {NASTY}"
    assert "one key has half of an engine's places" in words.troubles(made)[-1]
    assert "<h2>What went wrong, in the whole run</h2><ul><li>3 failed: &lt;script&gt;" in page.render(made)
    assert "- 3 failed: \\<script\\>" in markdown.render(made)
    assert "What went wrong" not in page.render(built(run()))


def test_a_report_of_several_loads_says_which_one_its_figures_are_of() -> None:
    several, one = page.render(full()), page.render(built(run()))
    assert ">At whole run, behind the warm-up:<" in several
    assert "behind the warm-up:" not in one


def test_the_sentence_of_a_sweep_says_up_to_where() -> None:
    levels = [figures.level(f"{n} users", n, run(rate=n), PEOPLE) for n in (10, 20)]
    held = built(run(), levels=levels, said=("pass", "up to 10 users; at 20 users, ttft was missed"))
    assert words.headline(held) == "The objectives held up to 10 users; at 20 users, ttft was missed."
    lost = built(run(), levels=levels, said=("fail", "at 10 users, ttft was missed"))
    assert words.headline(lost) == "The objectives did not hold at 10 users, ttft was missed."
    assert words.headline(built(run())).startswith("The objectives held at this load: at most 0.0%")


@pytest.mark.parametrize(("label", "axes"), [("{} users", 3), ("{} requests/s", 0)])
def test_plots_over_load_say_what_the_load_of_a_sweep_is_of(label: str, axes: int) -> None:
    levels = [figures.level(label.format(n), n, run(rate=n), PEOPLE) for n in (10, 20)]
    assert Shape(page.render(built(run(), levels=levels))).words.count("people at once") == axes


def test_ticks_are_round_and_inside() -> None:
    assert svg.ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert svg.ticks(0.013, 0.048) == [0.02, 0.03, 0.04]
    assert svg.decades(0.15, 2.5) == [0.2, 0.5, 1, 2]
    assert svg.decades(0.05, 0.12) == pytest.approx([0.06, 0.08, 0.1, 0.12])
    assert svg.ticks(5, 5) == [5]


def test_durations_are_said_as_people_say_them() -> None:
    assert [svg.seconds(one) for one in (0, 0.0125, 0.25, 0.99999, 2, 61.2, 900)] == [
        "0", "12.5 ms", "250 ms", "1 s", "2 s", "61.2 s", "15 min",
    ]  # fmt: skip


def test_points_lie_inside_the_plot() -> None:
    line = svg.Line(name="a", points=[(0, 0.001), (5, 1e9), (9, -4)], colour=1, dots=True)
    for logarithmic in (False, True):
        text = svg.plot([line], title="t", x="x", y="y", logarithmic=logarithmic)
        points = [(float(a), float(b)) for a, b in re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)"', text)]
        assert len(points) == 3
        assert all(svg.LEFT <= a <= svg.WIDTH and svg.TOP <= b <= svg.HEIGHT - svg.BOTTOM for a, b in points)


def test_a_run_writes_four_files_and_the_same_again(tmp_path: Path) -> None:
    records = run()
    made = built(records)
    written = store.write(tmp_path / "out", files.render(made, records))
    assert [one.name for one in written] == ["result.json", "requests.csv", "summary.md", "report.html"]
    first = [one.read_bytes() for one in written]
    assert [one.read_bytes() for one in store.write(tmp_path / "out", files.render(made, records[::-1]))] == first
    assert store.read(written[0]) == made


def waiting() -> list[Record]:
    """One server near its capacity: each waits for what those before it left to do."""
    draws, waits, made = np.random.default_rng(3), 0.0, []
    for k in range(600):
        waits = max(waits + float(draws.exponential(95)) - float(draws.exponential(100)), 0.0)
        made.append(record(k * 100.0, ttft=100 + waits, session=k))
    return made


def test_an_interval_that_is_not_told_is_explained_in_words() -> None:
    result = built(waiting())
    for told in (markdown.render(result), " ".join(Shape(page.render(result)).words)):
        assert "run too short" in told
        assert "time to first token" in told
        assert "p95 has no interval: too short beside the memory of its queue: 600 values are worth" in told
        assert "times as long, or search" in told
    few = built(run(50))
    for told in (markdown.render(few), " ".join(Shape(page.render(few)).words)):
        assert "too few" in told
        assert "p95 has no interval: 50 values are worth" in told
    for told in (markdown.render(built(run(400))), page.render(built(run(400)))):
        assert "no interval" not in told


def test_reasons_of_one_kind_are_told_once_at_each_load() -> None:
    result = built(waiting(), levels=[figures.level(f"{n} users", n, waiting(), PEOPLE) for n in (10, 20)])
    said = words.untold(result.levels)
    assert [one.partition(":")[0].partition(",")[0] for one in said] == ["10 users", "20 users"]
    assert all(one.count("too short") == 1 and " and time to the whole answer" in one for one in said)
