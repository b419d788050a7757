"""The server's side of a run: from a fake Prometheus and a fake gateway that answer as the real ones do."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from loadtests import machine
from loadtests.machine import Server, Tokens
from loadtests.target import Target
from tests.support.records import record

POWER = {"status": "success", "data": {"resultType": "matrix", "result": [
    {"metric": {}, "values": [[1000, "310.5"], [1005, "NaN"], [1010, "320"], [1015, "+Inf"]]}
]}}  # fmt: skip
NOTHING = {"status": "success", "data": {"resultType": "matrix", "result": []}}


class FakePrometheus(BaseHTTPRequestHandler):
    asked: list[dict[str, list[str]]]
    status = 200
    power: dict[str, Any] = POWER

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        self.asked.append(asked)
        body = json.dumps(self.power if "POWER" in asked["query"][0] else NOTHING).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def prometheus() -> Iterator[tuple[str, type[FakePrometheus]]]:
    handler = type("Handler", (FakePrometheus,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", handler
        finally:
            server.shutdown()
            thread.join()


def test_what_prometheus_has_is_there_and_the_rest_is_left_out(prometheus: tuple[str, type[FakePrometheus]]) -> None:
    url, fake = prometheus
    (power,) = machine.ask(Server(prometheus=url), 1000, 1600)
    assert (power.name, power.unit, power.points) == ("GPU power", "W", [(0, 310.5), (10, 320)])
    assert len(fake.asked) == len(machine.QUERIES)
    assert fake.asked[0]["step"] == ["5.000"]


def test_the_figures_count_from_the_first_request_as_the_report_does(
    prometheus: tuple[str, type[FakePrometheus]],
) -> None:
    """They counted from before the workers were started: the report's plots were seconds apart."""
    url, fake = prometheus
    first = time.monotonic_ns() - 600 * 10**9
    made = [record(intended_ns=first, done_ns=first + 90 * 10**9), record(intended_ns=first + 5, done_ns=first + 9)]
    now = time.time()
    machine.during(Server(prometheus=url), made)
    assert float(fake.asked[0]["start"][0]) == pytest.approx(now - 600, abs=1)
    assert float(fake.asked[0]["end"][0]) == pytest.approx(now - 510, abs=1)
    assert machine.during(Server(prometheus=url), []) == []


def test_a_prometheus_that_refuses_is_said_so(prometheus: tuple[str, type[FakePrometheus]]) -> None:
    url, fake = prometheus
    fake.status = 503
    with pytest.raises(ValueError, match=r"Prometheus at http://127.* GPU memory: 503"):
        machine.ask(Server(prometheus=url), 1000, 1600)


def test_prometheus_is_asked_by_its_own_program(tmp_path: Path) -> None:
    """`promtool` prints the series alone."""
    said = tmp_path / "asked"
    rows = json.dumps(POWER["data"]["result"])  # type: ignore[index]
    program = f"import sys; open({str(said)!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))\n"
    program += f"print({rows!r} if 'POWER' in sys.argv[2] else '[]')"
    (power,) = machine.ask(Server(prometheus=(sys.executable, "-c", program, "http://there")), 1000, 1600)
    assert power.points == [(0, 310.5), (10, 320)]
    asked = said.read_text().splitlines()
    assert len(asked) == len(machine.QUERIES)
    assert asked[0].endswith("--start=1000.000 --end=1600.000 --step=5.000s")


@pytest.mark.parametrize("content", [{"data": {}}, [{}], "no", None, [1]])
def test_other_answers_are_refused_in_words(content: Any) -> None:
    with pytest.raises(ValueError, match="no answer of Prometheus"):
        machine.read(content, 0)


def test_no_source_is_no_error() -> None:
    assert machine.server({}) == Server()
    assert machine.counted(Server()) is None
    assert machine.ask(Server(), 0, 1) == []
    assert machine.facts({}) == {"hardware": {}, "versions": {}, "configuration": {}}


METRICS = """HTTP/1.0 200 OK

gateway_consumers 3
gateway_llm_tokens_total{consumer="default",direction="output",model="tiny"} 7
gateway_llm_tokens_total{consumer="load",direction="input",model="tiny"} 1.25e+06
gateway_llm_tokens_total{consumer="load",direction="output",model="tiny"} 54
gateway_llm_tokens_total{consumer="load",direction="output",model="big"} 6
gateway_llm_tokens_total{consumer="load",direction="input",model="embed"} 3
"""


def prints(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"print({text!r})")


class TestTokens:
    def test_they_are_summed_over_models_for_the_one_consumer(self) -> None:
        assert machine.counted(Server(consumer="load", metrics=prints(METRICS))) == Tokens(input=1_250_003, output=60)

    def test_who_has_asked_for_nothing_has_none(self) -> None:
        assert machine.counted(Server(consumer="ann", metrics=prints(METRICS))) == Tokens(input=0, output=0)

    def test_what_comes_late_is_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "PAUSE", 0.0)
        count = tmp_path / "count"
        program = f"""if 1:
            import pathlib
            path = pathlib.Path({str(count)!r})
            n = min(int(path.read_text()) + 1 if path.exists() else 1, 3)
            path.write_text(str(n))
            print("gateway_consumers 1")
            print('gateway_llm_tokens_total{{consumer="load",direction="output",model="m"}}', n)
        """
        found = machine.counted(Server(consumer="load", metrics=(sys.executable, "-c", program)), settled=True)
        assert found == Tokens(input=0, output=3)

    @pytest.mark.parametrize("command", [prints("HTTP/1.0 404 Not Found"), (sys.executable, "-c", "1/0"), ("/no",)])
    def test_a_gateway_that_does_not_say_is_no_count_of_nothing(self, command: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match="metrics could not be read"):
            machine.counted(Server(consumer="load", metrics=command))

    def test_a_gateway_that_was_started_again_has_no_difference(self) -> None:
        assert Tokens(input=5, output=9).since(Tokens(input=1, output=2)) == Tokens(input=4, output=7)
        assert Tokens(input=5, output=1).since(Tokens(input=1, output=2)) is None
        assert Tokens(input=0, output=2).since(Tokens(input=1, output=2)) is None


class TestTold:
    def test_what_make_load_writes_is_read(self, tmp_path: Path) -> None:
        said = {"consumer": "load", "metrics": ["docker", "exec"], "prometheus": ["promtool"]}
        found = machine.server({machine.SERVER: json.dumps(said)})
        assert found == Server(consumer="load", metrics=("docker", "exec"), prometheus=("promtool",))
        assert machine.server({machine.SERVER: '{"prometheus": "http://p"}'}).prometheus == "http://p"
        (tmp_path / "facts.json").write_text('{"hardware": {"cores": 2}}')
        found_facts = machine.facts({machine.FACTS: str(tmp_path / "facts.json")})
        assert found_facts == {"hardware": {"cores": "2"}, "versions": {}, "configuration": {}}

    @pytest.mark.parametrize("text", ["[]", "words", '{"metrics": 7}'])
    def test_other_texts_are_refused_in_words(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="LOAD_SERVER is not what"):
            machine.server({machine.SERVER: text})
        (tmp_path / "facts.json").write_text(text if text != '{"metrics": 7}' else '{"hardware": 7}')
        with pytest.raises(ValueError, match=r"LOAD_FACTS=.*facts\.json"):
            machine.facts({machine.FACTS: str(tmp_path / "facts.json")})


class FakeOllama(FakePrometheus):
    """Lists models as the gateway shows them."""

    lists: dict[str, list[dict[str, str]]]

    def do_GET(self) -> None:
        self.asked.append({"key": [self.headers["Authorization"]]})
        found = self.lists.get(self.path)
        body = json.dumps({"models": found}).encode()
        self.send_response(403 if found is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.parametrize(
    ("loaded", "name", "wanted"),
    [
        ("1", "default", True),
        ("1", "tiny", True),
        ("2", "default", False),
        ("1", "unknown", None),
        (None, "default", None),
    ],
)
def test_a_model_is_resident_by_any_of_its_names(loaded: str | None, name: str, wanted: bool | None) -> None:
    lists = {"/ollama/api/tags": [{"name": "tiny:latest", "digest": "1"}, {"name": "default", "digest": "1"}]}
    if loaded:
        lists["/ollama/api/ps"] = [{"name": "tiny", "digest": loaded}]
    handler = type("Handler", (FakeOllama,), {"asked": [], "lists": lists})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        target = Target(url=f"http://127.0.0.1:{server.server_port}", key="sk-key")
        found = machine.resident(target, name)
        server.shutdown()
        thread.join()
    assert found is wanted
    assert {one["key"][0] for one in handler.asked} == {"Bearer sk-key"}  # type: ignore[attr-defined]


def test_a_target_that_is_not_there_is_not_known() -> None:
    assert machine.resident(Target(url="http://127.0.0.1:9", key="k"), "default") is None
