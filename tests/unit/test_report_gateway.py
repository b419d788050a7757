"""What a report says of the gateway's tax: its own section, no sentence that the interval does not bear."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.analysis.slo import preset
from loadtests.report import gateway, markdown, page
from loadtests.results import build
from loadtests.results.schema import Added, Environment, Handshake, Metric, Result, Streams, Tax
from tests.support.records import run

PLACE = Environment(target="https://localhost", hardware={}, versions={}, configuration={}, seeds={})


def added(metric: Metric = "ttft", low: float = 0.0004, high: float = 0.0007) -> Added:
    return Added(
        metric=metric, pairs=60, worth=50.0, direct=0.1, through=0.1005, added=(low + high) / 2, low=low, high=high
    )


def found(*levels: Streams, **changes: Any) -> Tax:
    usual = Streams(streams=1, pairs=60, failed=0, uneven=0, added=[added(), added("e2e", 0.001, 0.002)], cpu=0.0021)
    return Tax(**{
        "direct": "http://172.21.0.2:11434", "through": "https://<llm>.lan", "model": "m", "router": "not present",
        "seed": 1, "tokens": 32, "levels": list(levels or (usual,)), "caution": "",
        "handshake": Handshake(connections=12, direct=0.0001, through=0.0002, tls=0.0031), **changes,
    })  # fmt: skip


def reported(toll: Tax | None) -> Result:
    made = build.result(run(60), preset("people"), PLACE, title="chat", started="2026-01-02T03:04:05Z")
    return made.model_copy(update={"tax": toll})


def test_the_page_has_a_section_and_the_summary_a_sentence() -> None:
    text = page.render(reported(found()))
    for words in (
        "<h2>The gateway</h2>", "0.55 ms (0.40 to 0.70 ms) with one stream", "time to the whole answer",
        "1.50 ms (1.00 to 2.00 ms)", "3.10 ms for TLS", "2.10 ms with one stream", "Router: not present",
        "https://&lt;llm&gt;.lan",
    ):  # fmt: skip
        assert words in text
    assert "adds to the time to the first token 0.55 ms" in markdown.render(reported(found()))


def test_without_one_there_is_none() -> None:
    assert "The gateway" not in page.render(reported(None))
    assert "gateway adds" not in markdown.render(reported(None))


def test_an_interval_around_nothing_is_no_cost() -> None:
    few = Streams(streams=4, pairs=8, failed=0, uneven=0, added=[added(low=-0.004, high=0.005)], cpu=None)
    said = gateway.sentence(found(few))
    assert "nothing that could be told from none (-4.00 to 5.00 ms) with 4 streams at once" in said
    assert "Processor time of the gateway: not known." in gateway.notes(found(few))


def test_cautions_are_said_and_what_failed_is_no_figure() -> None:
    none = Streams(streams=1, pairs=3, failed=9, uneven=0, added=[], cpu=None)
    assert gateway.sentence(found(none, caution="few")) == "What the gateway adds is not known: few."
    assert "Caution: busy" in gateway.sentence(found(caution="busy"))
    assert gateway.rows(found(none)) == []


@pytest.mark.parametrize("handshake", [None, Handshake(connections=12, direct=0.0001, through=0.0002, tls=None)])
def test_connections_are_told_as_far_as_they_are_known(handshake: Handshake | None) -> None:
    notes = " ".join(gateway.notes(found(handshake=handshake)))
    assert ("A new connection" in notes) is (handshake is not None)
    assert ("no TLS" in notes) is (handshake is not None)
