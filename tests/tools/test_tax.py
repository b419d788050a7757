"""The gateway's tax for real: a known difference is found, and our gateway costs what its benchmark says."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import places
from bench.places import Gateway
from loadtests.compare import pairs
from loadtests.compare.pairs import Asked, NoAnswer, Way
from loadtests.results import store
from loadtests.results.schema import Added, Tax
from tests.support.engine import Engine, engine
from tests.support.samples import ROOT

MODEL = places.MODEL


@pytest.fixture(scope="module")
def one() -> Iterator[Engine]:
    with engine((MODEL, "all-minilm", "slower"), ttft_ms=20, itl_ms=2, tokens=100) as started:
        started.play("slower", ttft_ms=40, itl_ms=3, tokens=100)
        yield started


@pytest.fixture(scope="module")
def gateway(one: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with places.gateway(tmp_path_factory.mktemp("gateway"), one.address) as started:
        yield started


def asked(one: Engine, through: Way, **changes: Any) -> Asked:
    direct = Way(url=f"http://{one.address}", model=MODEL)
    return Asked(direct=direct, through=through, **{"streams": (1, 4), "pairs": 24, "tokens": 12, **changes})


def ours(gateway: Gateway) -> Way:
    return Way(url=gateway.running.url, model="default", ca=gateway.running.ca)


def figure(tax: Tax, level: int, metric: str) -> Added:
    return next(added for added in tax.levels[level].added if added.metric == metric)


def test_a_known_difference_is_found_whatever_the_streams(one: Engine) -> None:
    tax = pairs.measure(asked(one, Way(url=f"http://{one.address}", model="slower")), "")
    slack = 0.005 if tax.caution else 0.001
    for level in range(2):
        assert (tax.levels[level].pairs, tax.levels[level].failed, tax.levels[level].uneven) == (24, 0, 0)
        first, gap, end = (figure(tax, level, name) for name in ("ttft", "itl", "e2e"))
        assert first.low - slack <= 0.020 <= first.high + slack
        assert gap.added == pytest.approx(0.001, abs=slack / 5)
        assert end.low - slack <= 0.020 + 11 * 0.001 <= end.high + slack
        if not tax.caution:
            assert first.added == pytest.approx(0.020, abs=0.001)
            assert first.high - first.low < 0.002


def test_our_gateway_adds_about_what_its_benchmark_says(one: Engine, gateway: Gateway) -> None:
    since = one.state["requests"]
    tax = pairs.measure(asked(one, ours(gateway), process=gateway.process.pid), gateway.keys["default"])
    first, gap = figure(tax, 0, "ttft"), figure(tax, 0, "itl")
    assert tax.levels[0].failed == tax.levels[1].failed == 0
    assert one.state["requests"] - since >= 2 * 2 * 24 + 4, "both ways lead to the engine"
    assert tax.handshake is not None
    assert tax.handshake.tls is not None
    assert tax.handshake.tls > tax.handshake.through > 0
    for level in tax.levels:
        assert level.cpu is not None
        assert 0.0001 < level.cpu < 0.02
    if tax.caution:
        pytest.skip(f"the machine is not quiet: {tax.caution}")
    assert 0 < first.low < first.added < 0.003
    assert abs(gap.added) < 0.0002, "a delay of each token is not one of their gaps"


def test_another_place_may_stand_for_the_one_of_the_url(one: Engine, gateway: Gateway) -> None:
    at = f"127.0.0.1:{gateway.running.https}"
    named = Way(url="https://llm.example.org:8443", model="default", at=at, ca=gateway.running.ca)
    with pytest.raises(NoAnswer, match=r"llm\.example\.org"):  # the certificate is not for that name
        pairs.measure(asked(one, named), gateway.keys["default"])
    here = named.model_copy(update={"url": gateway.running.url})
    tax = pairs.measure(asked(one, here, streams=(1,), pairs=6), gateway.keys["default"])
    assert (tax.levels[0].pairs, tax.through) == (6, gateway.running.url)


# --- as a program ----------------------------------------------------------------------------------------------------


def program(folder: Path, text: str, key: str, monkeypatch: pytest.MonkeyPatch) -> int:
    (folder / "asked.json").write_text(text)
    monkeypatch.setitem(os.environ, "OPENAI_API_KEY", key)
    return pairs.main([str(folder / "asked.json"), str(folder / "tax.json")])


def test_the_program_writes_what_it_found_and_no_key(
    one: Engine, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    what = asked(one, ours(gateway), streams=(2,), pairs=8)
    assert program(tmp_path, what.model_dump_json(), gateway.keys["default"], monkeypatch) == 0
    tax = Tax.model_validate_json((tmp_path / "tax.json").read_text())
    assert (tax.levels[0].streams, tax.levels[0].pairs) == (2, 8)
    said = capfd.readouterr()
    assert "2 at once, 8 pairs" in said.err
    assert gateway.keys["default"] not in said.out + said.err + (tmp_path / "tax.json").read_text()


def closed() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    "told",
    [
        ({"direct": {"url": closed(), "model": MODEL}}, "", 1, r"directly, http://127.0.0.1:\d+ gave no answer"),
        ({"direct": {"model": "gone"}}, "", 1, "of gone: error"),
        ({}, "sk-wrong", 1, "through the gateway, https://localhost"),
        ({"direct": {"url": "engine:11434"}}, "", 2, "direct.url: .*'engine:11434' is no address"),
        ({"streams": "many"}, "", 2, "streams: "),
        ({"colour": "red"}, "", 2, "colour: "),
    ],
    ids=["nothing there", "no such model", "wrong key", "no address", "no number", "unknown"],
)
def test_what_does_not_work_is_told_in_a_sentence(
    told: tuple[dict[str, Any], str, int, str], one: Engine, gateway: Gateway, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    changes, key, code, said = told
    what = json.loads(asked(one, ours(gateway)).model_dump_json())
    what |= changes | {"direct": what["direct"] | changes.get("direct", {})}
    assert program(tmp_path, json.dumps(what), key or gateway.keys["default"], monkeypatch) == code
    err = capsys.readouterr().err
    assert re.search(said, err), err
    assert not (tmp_path / "tax.json").exists()


def test_a_key_that_is_repeated_is_not_told(
    one: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = "sk-of-the-gateway-0123456789"
    one.next({}, {}, {"fault": "echo_key"})  # directly twice, then through it
    what = asked(one, Way(url=f"http://{one.address}", model=MODEL))
    assert program(tmp_path, what.model_dump_json(), key, monkeypatch) == 1
    said = capsys.readouterr()
    assert "through the gateway, " in said.err
    assert "Incorrect API key provided: Bearer (the key)" in said.err
    assert not [key[at : at + 8] for at in range(len(key) - 7) if key[at : at + 8] in said.err + said.out]


def test_a_run_carries_what_was_measured_before_it(one: Engine, tmp_path: Path) -> None:
    found = Tax(
        direct="http://engine", through="https://gateway", model="m", router="not present", seed=1, tokens=8,
        levels=[], handshake=None, caution="measured elsewhere",
    )  # fmt: skip
    (tmp_path / "tax.json").write_text(found.model_dump_json())
    words = {
        "USERS": "1",
        "FOR": "2s",
        "OUT": str(tmp_path / "run"),
        "TAX": "1",
        "TAX_FILE": str(tmp_path / "tax.json"),
    }
    env = {name: value for name, value in os.environ.items() if not name.startswith("LOAD_")}
    env |= {"OPENAI_BASE_URL": f"http://{one.address}", "OPENAI_API_KEY": "none", "LOAD_MODEL": MODEL}
    env |= {f"LOAD_{name}": value for name, value in words.items()}
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.run"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr  # so short a run has no verdict
    assert store.read(tmp_path / "run" / "result.json").tax == found
    assert "measured elsewhere" in (tmp_path / "run" / "report.html").read_text()
