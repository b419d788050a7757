"""What Prometheus knows of the machine, from a fake one that answers as it does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from loadtests import machine

POWER = {"status": "success", "data": {"resultType": "matrix", "result": [
    {"metric": {}, "values": [[1000, "310.5"], [1005, "NaN"], [1010, "320"], [1015, "+Inf"]]}
]}}  # fmt: skip
NOTHING = {"status": "success", "data": {"resultType": "matrix", "result": []}}


class FakePrometheus(BaseHTTPRequestHandler):
    asked: list[dict[str, list[str]]]
    status = 200

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        self.asked.append(asked)
        body = json.dumps(POWER if "POWER" in asked["query"][0] else NOTHING).encode()
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
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", handler
        server.shutdown()
        thread.join()


def test_what_prometheus_has_is_there_and_the_rest_is_left_out(prometheus: tuple[str, type[FakePrometheus]]) -> None:
    url, fake = prometheus
    (power,) = machine.ask(url, 1000, 1600)
    assert (power.name, power.unit, power.points) == ("GPU power", "W", [(0, 310.5), (10, 320)])
    assert len(fake.asked) == len(machine.QUERIES)
    assert fake.asked[0]["step"] == ["5.000"]


def test_a_prometheus_that_refuses_is_said_so(prometheus: tuple[str, type[FakePrometheus]]) -> None:
    url, fake = prometheus
    fake.status = 503
    with pytest.raises(ValueError, match=r"Prometheus at http://127.* GPU memory: 503"):
        machine.ask(url, 1000, 1600)


@pytest.mark.parametrize("content", [[], {"data": {}}, {"data": {"result": [{}]}}, "no", None])
def test_other_answers_are_refused_in_words(content: Any) -> None:
    with pytest.raises(ValueError, match="no answer of Prometheus"):
        machine.read(content, 0)
