"""Whole runs, from words to report, in a process of their own; most of them with something wrong.

What is wrong never ends as a pass: the exit status, the verdict and the words say what it was. Times are judged only
where the run's own gates say that the machine was quiet.
"""

from __future__ import annotations

import csv
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from loadtests.compare import baseline
from loadtests.results import store
from loadtests.results.schema import Result
from stack.config.explain import parse_platform
from tests.support.engine import Engine, engine
from tests.support.gateway import Running, running
from tests.support.samples import ROOT, SAMPLES

KEY: Final = "sk-load-test-0123456789abcdef"
PROFILE: Final = "input: fixed:20\noutput: fixed:10\nturns: fixed:3\nthink: lognormal:0.2,0.5\nname: quick\n"
ANSWER: Final = {"ttft_ms": 40, "itl_ms": 10, "tokens": 400}
"""Ten tokens are asked for, so an answer takes 130 ms."""
WARM_UP: Final = 2
"""Answers that a run asks for before its load."""
END: Final = 60.0


@pytest.fixture(scope="module")
def direct() -> Iterator[Engine]:
    with engine(("default", "embedding"), "-key", KEY) as one:
        yield one


@pytest.fixture
def one(direct: Engine) -> Engine:
    direct.reset()
    direct.play(**ANSWER)
    return direct


@dataclass
class Run:
    """A run that is over, or not yet."""

    process: subprocess.Popen[str]
    folder: Path
    out: str = ""
    err: str = ""

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        self.out, self.err = self.process.communicate(timeout=END)
        assert KEY not in self.out + self.err
        assert "Traceback" not in self.err
        return self.process.returncode

    @property
    def result(self) -> Result:
        return store.read(self.folder / "result.json")

    @property
    def rows(self) -> list[dict[str, str]]:
        return list(csv.DictReader((self.folder / "requests.csv").read_text().splitlines()))

    def quiet(self) -> bool:
        """The client had the processor time that it needs."""
        return all(gate.word != "FAIL" for gate in self.result.gates if gate.side == "client")

    def settled(self) -> bool:
        """The gate on the steady state did not end it: a test, wrong once in a hundred times where all is quiet."""
        return "steady state" not in self.result.reason


@contextmanager
def started(
    folder: Path, url: str, *, key: str = KEY, ca: str = "", baselines: str = "", **words: str
) -> Iterator[Run]:
    """A run in a process of its own, with its profile and report in this folder."""
    (folder / "quick.yaml").write_text(PROFILE)
    given = {"PROFILE": str(folder / "quick.yaml"), "OUT": str(folder / "out"), **words}
    environment = {
        "PATH": os.defpath, "HOME": str(folder), "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key,
        "BASELINES": baselines or str(folder / "baselines"),
        **({"SSL_CERT_FILE": ca} if ca else {}), **{f"LOAD_{name}": value for name, value in given.items()},
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "loadtests.run"], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield Run(process, Path(given["OUT"]))
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def ran(folder: Path, address: str, **words: Any) -> tuple[int, Run]:
    with started(folder, f"http://{address}", **words) as run:
        return run.wait(), run


def ran_quietly(folder: Path, address: str, **words: Any) -> Run:
    """A run on a machine that was quiet from its beginning to its end, of three at most."""
    for name in ("first", "second", "third"):
        (here := folder / name).mkdir(parents=True)
        status, run = ran(here, address, **words)
        if run.quiet() and run.settled():
            assert status == (0 if run.result.verdict == "pass" else 1)
            return run
    pytest.skip(f"the machine is not quiet: {run.result.reason}")


# --- in order --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Engine]]:
    """The real gateway, with a key without limits, in front of an engine with eight slots."""
    tree = {
        "gateway": {"hostnames": ["localhost"]},
        "engine": {"parallel": 8},
        "models": [
            {"name": "qwen3:0.6b", "aliases": ["default"]},
            {"name": "all-minilm", "role": "embedding", "aliases": ["embedding"]},
        ],
        "consumers": [{"name": "load", "scopes": ["chat", "embeddings", "native"], "requestsPerMinute": 100_000}],
        "chat": {"enabled": False},
        "memory": {"enabled": False},
    }
    platform = parse_platform(yaml.safe_load(yaml.safe_dump(tree)), source="load.yaml")
    folder = tmp_path_factory.mktemp("gateway")
    with (
        engine(("qwen3:0.6b", "all-minilm"), slots=8, **ANSWER) as behind,
        running(platform, SAMPLES["dev"].parts, {"load": KEY}, folder, engine=behind.address, chat=None) as front,
    ):
        yield front, behind


def test_people_through_the_real_gateway(gateway: tuple[Running, Engine], tmp_path: Path) -> None:
    front, behind = gateway
    for seed in ("1", "2"):
        behind.forget()
        (folder := tmp_path / seed).mkdir()
        with started(folder, front.url, ca=front.ca, USERS="6", FOR="10s", SEED=seed) as run:
            status = run.wait()
        if run.settled():
            break
    result, rows = run.result, run.rows
    asked = [one for one in behind.seen() if one.target.endswith("chat/completions")]
    assert len(rows) == len(asked) - WARM_UP, "every request is in the report once"
    assert {row["outcome"] for row in rows} <= {"ok", "cancelled"}
    assert all(int(row["output_tokens"]) == 10 for row in rows if row["outcome"] == "ok")
    assert any(row["tls_ms"] for row in rows) or result.environment.target.startswith("https://")
    assert {one.headers and one.values("authorization")[0] for one in asked if one.values("authorization")} == set()
    files = {path.name for path in run.folder.iterdir()}
    assert files == {"result.json", "requests.csv", "report.html", "summary.md"}
    assert not any(KEY in path.read_text() for path in run.folder.iterdir())
    assert result.environment.configuration["PROFILE"] == "quick"
    assert str(tmp_path) not in (run.folder / "result.json").read_text(), "no folders of this machine"
    if not run.quiet():
        assert (status, result.verdict) == (1, "none")
        assert "the client was the bottleneck" in run.out
        pytest.skip(f"the machine is not quiet: {result.reason}")
    assert (status, result.verdict) == (0, "pass"), result.reason
    assert run.out.startswith("PASS  The objectives held at this load: at most 0.0% of ")
    assert run.out.splitlines()[-1] == f"report: {run.folder / 'report.html'}"
    assert 0.035 < result.whole.metrics["ttft"].p50 < 0.06
    assert re.search(r"6 users: \d+ answered \| [0-6] in flight \| TTFT p50 \d+", run.err), "progress"


def test_levels_on_both_sides_of_a_knee_that_is_known(gateway: tuple[Running, Engine], tmp_path: Path) -> None:
    front, _ = gateway  # 8 slots / 130 ms: 61 requests a second at most
    words = {"RATE": "120,15,30", "FOR": "5s", "SLO": "ttft=0.4,tpot=0.1"}
    with started(tmp_path, front.url, ca=front.ca, **words) as run:
        status = run.wait()
    result = run.result
    assert [level.label for level in result.levels] == ["15 requests/s", "30 requests/s", "120 requests/s"]
    shares = [level.good_share or 0 for level in result.levels]
    assert shares[2] < 0.5
    assert "limit" in result.levels[2].outcomes, "one consumer has half of the places, those who wait included"
    if not run.quiet():
        pytest.skip(f"the machine is not quiet: {result.reason}")
    assert shares[0] > 0.95
    assert status == (0 if result.verdict == "pass" else 1)
    if result.verdict == "pass":
        assert re.match(r"up to (15|30) requests/s; at (30|120) requests/s, ", result.reason)


def test_a_short_search_names_a_load_below_the_knee_or_says_why_not(
    gateway: tuple[Running, Engine], tmp_path: Path
) -> None:
    front, _ = gateway
    words = {"SEARCH": "rate", "BUDGET": "15s", "SLO": "ttft=0.2"}
    with started(tmp_path, front.url, ca=front.ca, **words) as run:
        status = run.wait()
    result = run.result
    assert result.seconds < 25, "the budget is kept"
    assert result.answer is not None
    assert result.answer.probes
    assert "a probe takes at least 2 s here, and a search about 20 of them: this one may end without a" in run.err
    assert re.search(r"requests/s [\d.]+: \d", run.err), "progress"
    if result.verdict == "pass":
        assert status == 0
        assert result.answer.value is not None
        assert 20 < result.answer.value < 70, "8 slots / 130 ms are 61 requests a second"
    else:
        assert status == 1
        assert result.answer.value is None or result.reason != result.answer.why
        assert run.out.startswith(("NO VERDICT", "FAIL"))


def test_a_run_slower_than_its_baseline_fails(one: Engine, tmp_path: Path) -> None:
    words = {"RATE": "60", "FOR": "12s"}
    before = ran_quietly(tmp_path / "before", one.address, **words)
    assert before.result.verdict == "pass", before.result.reason
    kept = tmp_path / "baselines"
    assert baseline.main({"RUN": str(before.folder), "BASELINES": str(kept)}) == 0
    one.play(**ANSWER | {"ttft_ms": 80, "itl_ms": 20})
    after = ran_quietly(tmp_path / "after", one.address, **words, baselines=str(kept), GATE="1")
    assert after.result.verdict == "fail", after.result.reason
    assert after.out.startswith("FAIL  The objectives held, but it is worse than the run of")
    (more,) = re.findall(r"worse than .*?time to first token \+(\d+)", after.out)
    assert 80 < int(more) < 120, "it was doubled"


def test_embeddings_are_loaded_too(one: Engine, tmp_path: Path) -> None:
    status, run = ran(tmp_path, one.address, PROFILE="embed", RATE="20", FOR="4s")
    result = run.result
    assert "ttft" not in result.whole.metrics
    assert result.whole.metrics["e2e"].n > 20
    assert status in {0, 1}
    assert result.objectives == {"e2e": 1.0}
    assert result.environment.configuration["MODEL"] == "embedding"


def test_where_there_are_vectors_alone_model_is_what_makes_them(one: Engine, tmp_path: Path) -> None:
    _, run = ran(tmp_path, one.address, PROFILE="embed", RATE="20", FOR="2s", MODEL="default")
    assert run.result.environment.configuration["MODEL"] == "default"
    assert {row["model"] for row in run.rows} == {"default"}


def test_a_log_is_replayed(one: Engine, tmp_path: Path) -> None:
    trace = "at_s,input_tokens,output_tokens\n" + "".join(f"{k / 10:.1f},12,{5 + k % 2}\n" for k in range(60))
    (tmp_path / "trace.csv").write_text(trace)
    _, run = ran(tmp_path, one.address, REPLAY=str(tmp_path / "trace.csv"), SPEED="2")
    assert len(run.rows) == 60
    assert {row["output_tokens"] for row in run.rows} == {"5", "6"}
    moments = [float(row["intended_s"]) for row in run.rows]
    assert moments[-1] == pytest.approx(2.95, abs=0.001)


# --- what may be wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"USERS": "many"}, "USERS=many: 'many' is none; a whole number from 1"),
        ({"USERS": "1", "PROFILE": "chta"}, "PROFILE=chta: did you mean chat?"),
        ({"USERS": "1", "ARRIVALS": "often"}, "ARRIVALS=often would do nothing here"),
        ({"RATE": "1", "ARRIVALS": "often"}, "ARRIVALS=often: allowed are constant"),
        ({"USERS": "1", "key": "sk-other"}, "does not accept the key in OPENAI_API_KEY (401)"),
        ({"USERS": "1", "key": ""}, "OPENAI_API_KEY is not set"),
        ({"USERS": "1", "MODEL": "gpt-5"}, "the model 'gpt-5' is not there for this key; there are: default, "),
        ({"REPLAY": "/nowhere/a.log"}, "/nowhere/a.log cannot be read"),
        ({"USERS": "1", "TAX": "1"}, "TAX=1 is a word of `make load`"),
        ({"USERS": "1", "PROCESSES": "256"}, "PROCESSES=256: this machine has "),
        ({"USERS": "1", "OUT": "/proc/none"}, "/proc/none: "),
        ({"USERS": "1", "GATE": "1"}, "GATE=1: there is no baseline in "),
        ({"USERS": "1", "PROFILE": "rag", "EMBEDDING_MODEL": "e5"}, "the model 'e5' is not there for this key"),
    ],
)
def test_what_cannot_begin_is_said_in_words_and_leaves_nothing(
    one: Engine, tmp_path: Path, words: dict[str, str], message: str
) -> None:
    status, run = ran(tmp_path, one.address, **words)
    assert status == 2
    assert run.out == ""
    assert f"error: {message}" in run.err or message in run.err
    assert not (tmp_path / "out").exists()


def test_a_url_where_nobody_is(tmp_path: Path) -> None:
    status, run = ran(tmp_path, "127.0.0.1:9", USERS="1")
    assert status == 2
    assert "refuses connections, nothing listens there: is the stack up" in run.err


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"fault": "never"}, "timeout"),
        ({"fault": "cut", "fault_after": 3}, "truncated"),
        ({"fault": "garbage", "fault_after": 3}, "error"),
        ({"fault": "status", "status": 500}, "error"),
        ({"fault": "status", "status": 429}, "limit"),
    ],
)
def test_a_server_that_goes_wrong_under_load_is_no_pass(
    one: Engine, tmp_path: Path, fault: dict[str, Any], outcome: str
) -> None:
    one.play(**ANSWER | fault)
    one.next(*[ANSWER] * WARM_UP)
    status, run = ran(tmp_path, one.address, USERS="3", FOR="2s", TIMEOUT="1s")
    result = run.result
    assert status == 1
    assert result.verdict == "none"
    assert run.rows
    assert {row["outcome"] for row in run.rows} <= {outcome, "cancelled"}
    assert outcome in {row["outcome"] for row in run.rows}
    assert next(gate for gate in result.gates if gate.name == "completed").word == "FAIL"
    assert run.out.startswith("NO VERDICT  Nothing can be concluded from this run: ")
    assert "gate errors: FAIL" in run.out
    words = {"limit": "hit a limit (429)", "timeout": "failed ("}.get(outcome, "failed (")
    assert words in run.err, "progress says it while it happens"


@pytest.mark.parametrize("words", [{"USERS": "3", "FOR": "2s"}, {"RATE": "20", "FOR": "2s", "PROFILE": "embed"}])
def test_a_key_that_the_server_repeats_is_nowhere(one: Engine, tmp_path: Path, words: dict[str, str]) -> None:
    one.play(**ANSWER | {"fault": "echo_key"})
    one.next(*[ANSWER] * WARM_UP)
    _, run = ran(tmp_path, one.address, **words)
    texts = {path.name: path.read_text() for path in run.folder.iterdir()} | {"out": run.out, "err": run.err}
    assert len(texts) == 6
    assert "Incorrect API key provided: Bearer (the key)" in texts["requests.csv"]
    parts = [KEY[at : at + 8] for at in range(len(KEY) - 7)]
    assert [(name, part) for name, text in texts.items() for part in parts if part in text] == []


def test_a_key_that_the_server_repeats_before_the_load(one: Engine, tmp_path: Path) -> None:
    one.play(fault="echo_key")
    status, run = ran(tmp_path, one.address, USERS="1")
    assert status == 2
    assert "failed (401: Incorrect API key provided: Bearer (the key))" in run.err
    assert not [KEY[at : at + 8] for at in range(len(KEY) - 7) if KEY[at : at + 8] in run.err + run.out]


@contextmanager
def dripping() -> Iterator[str]:
    """A server whose list of models comes a byte a second, without an end."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n")
            while not over.wait(1):
                connection.sendall(b" ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: serve(server.accept()[0]), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        over.set()
    thread.join(5)


def test_a_list_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    with dripping() as address:
        began = time.monotonic()
        status, run = ran(tmp_path, address, USERS="1")
    assert status == 2
    assert "did not answer within 10 s" in run.err
    assert time.monotonic() - began < 30


def test_objectives_that_can_never_hold(one: Engine, tmp_path: Path) -> None:
    status, run = ran(tmp_path, one.address, USERS="8", FOR="5s", SLO="ttft=0.001")
    assert status == 1
    assert run.result.whole.good_share == 0
    if run.result.verdict == "fail":  # else the machine was too busy for any verdict
        assert "ttft was missed by 100.0% of" in run.out


def test_when_nothing_completes_the_report_says_so(one: Engine, tmp_path: Path) -> None:
    one.play(**ANSWER | {"ttft_ms": 30_000})
    one.next(*[ANSWER] * WARM_UP)
    status, run = ran(tmp_path, one.address, USERS="2", FOR="1s")
    assert status == 1
    assert {row["outcome"] for row in run.rows} == {"cancelled"}
    assert "0 of 2" in next(gate for gate in run.result.gates if gate.name == "completed").value


def waiting(run: Run, words: str) -> None:
    """Reads the run's progress until these words are there."""
    assert run.process.stderr is not None
    deadline = time.monotonic() + END
    while words not in run.err:
        assert time.monotonic() < deadline, run.err
        line = run.process.stderr.readline()
        assert line, f"it ended without {words!r}: {run.err}"
        run.err += line


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ({"USERS": "3", "FOR": "10m"}, signal.SIGINT),
        ({"SEARCH": "users"}, signal.SIGINT),
        ({"RATE": "2,4", "FOR": "10m"}, signal.SIGTERM),
    ],
)
def test_ctrl_c_leaves_a_report_that_is_marked(
    one: Engine, tmp_path: Path, words: dict[str, str], number: signal.Signals
) -> None:
    with started(tmp_path, f"http://{one.address}", **words) as run:
        waiting(run, " answered | ")
        workers = children(run.process.pid)
        assert workers
        run.process.send_signal(number)
        began = time.monotonic()
        assert run.wait() == 130
        assert time.monotonic() - began < 15
    result = run.result
    assert (result.complete, result.verdict) == (False, "none")
    assert result.stopped in {"Ctrl-C", "a request to end"}
    assert "the run was stopped" in run.out
    assert "This run is not complete" in (run.folder / "report.html").read_text()
    assert run.rows
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_a_terminal_that_is_closed_leaves_a_report(one: Engine, tmp_path: Path) -> None:
    with started(tmp_path, f"http://{one.address}", USERS="3", FOR="10m") as run:
        waiting(run, " answered | ")
        assert run.process.stdout is not None
        assert run.process.stderr is not None
        run.process.stdout.close()
        run.process.stderr.close()
        run.process.send_signal(signal.SIGHUP)
        assert run.process.wait(END) == 130
    assert run.result.stopped == "its terminal was closed"
    assert (run.folder / "report.html").exists()


def test_ctrl_c_while_the_program_loads_says_nothing(one: Engine, tmp_path: Path) -> None:
    with started(tmp_path, f"http://{one.address}", USERS="1") as run:
        maps, deadline = Path(f"/proc/{run.process.pid}/maps"), time.monotonic() + END
        while "_multiarray_umath" not in maps.read_text():  # numpy: in the middle of its imports
            assert time.monotonic() < deadline
        run.process.send_signal(signal.SIGINT)
        assert run.wait() in {-signal.SIGINT, 130}


def test_a_second_ctrl_c_ends_at_once_without_a_report(one: Engine, tmp_path: Path) -> None:
    one.play(**ANSWER | {"ttft_ms": 8000})
    one.next(*[ANSWER] * WARM_UP)
    with started(tmp_path, f"http://{one.address}", USERS="3", FOR="10m") as run:
        waiting(run, ": 0 answered")
        workers = children(run.process.pid)
        run.process.send_signal(signal.SIGINT)
        waiting(run, "once more ends it at once")
        run.process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert run.wait() == 130
        assert time.monotonic() - began < 3
    assert list(run.folder.iterdir()) == []
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker outlived its run"
        time.sleep(0.02)


def test_a_full_disk_is_no_pass_and_leaves_no_half_file(one: Engine, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mount: only root may")
    try:
        status, run = ran(tmp_path, one.address, USERS="6", FOR="6s", OUT=str(small / "out"))
        assert status == 1
        assert "could not be written (No space left on device)" in run.err
        assert "choose another folder with OUT=" in run.err
        assert run.out.startswith(("PASS", "NO VERDICT")), "what was found is said all the same"
        assert "report: " not in run.out
        left = {path.name for path in (small / "out").iterdir()}
        assert left <= {"result.json", "requests.csv", "summary.md"}
        if "result.json" in left:
            store.read(small / "out" / "result.json")
    finally:
        subprocess.run(["umount", str(small)], check=True)
