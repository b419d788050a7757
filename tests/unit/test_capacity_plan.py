"""The fit check inside every up and preview, and `make plan`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops import paths, record
from ops.docker import DockerCli, Result, run_process
from ops.errors import OpsError
from ops.model_file import WEIGHTS, of_engine, reader, shape
from ops.plan import models, plan
from ops.preflight.finding import Context, Finding, Level
from ops.preflight.fit import ModelsFit, host, in_engine
from ops.preflight.host import Host
from ops.request import Request
from stack.capacity.gguf import GgufError
from stack.config.explain import ConfigError, parse_platform
from stack.config.model import Platform
from tests.unit.test_capacity_gguf import LLAMA, TENSORS, file
from tests.unit.test_config_errors import GOOD
from tests.unit.test_preflight_checks import FakeDocker

CARD = {"device": "nvidia-rtx-4090"}


def platform(*names: str, **engine: Any) -> Platform:
    models = [{"name": name, "aliases": ["default"] if not which else []} for which, name in enumerate(names)]
    content = GOOD | {"models": models, "memory": {"enabled": False}, "engine": engine} if names else GOOD
    return parse_platform(content, "Pulumi.dev.yaml")


def checked(of: Platform, source: str = "official") -> Finding | None:
    context = Context(
        platform=of, docker=FakeDocker().cli(), info={}, host=Host(), project="private-llm", stack="dev", source=source
    )
    return ModelsFit().check(context)


def finding(of: Platform) -> Finding:
    found = checked(of)
    assert found is not None
    return found


def test_the_default_platform_fits_and_nothing_is_said() -> None:
    assert checked(platform()) is None


def test_a_model_that_does_not_fit_is_refused_with_numbers_and_what_would() -> None:
    found = finding(platform("qwen3:32b", accelerator="nvidia", hardware=[CARD], contextLength=8192))
    assert found.level is Level.REFUSED
    assert "qwen3:32b with 4 x 8192 tokens does not fit" in found.what
    assert "of 24.0 GiB of nvidia-rtx-4090: weights" in found.what
    assert "contextLength:" in found.fix
    assert "kvCache: q8_0" in found.fix
    assert "allowOversize" in found.fix


def test_a_reason_turns_the_refusal_into_a_warning_that_repeats_it() -> None:
    found = finding(
        platform("qwen3:32b", accelerator="nvidia", hardware=[CARD], contextLength=8192, allowOversize="at night")
    )
    assert found.level is Level.WARNING
    assert found.what.endswith("(allowed: at night)")
    assert "allowOversize" not in found.fix


def test_the_memory_limit_is_what_a_cpu_has() -> None:
    small = {"memory": "4GiB", "cpus": 2}
    found = finding(platform("qwen3:8b", resources=small))
    assert (found.level, "of 4.0 GiB of the CPU" in found.what) == (Level.REFUSED, True)
    assert "engine.resources.memory:" in found.fix


def test_what_is_reserved_on_a_card_is_not_planned() -> None:
    fits = {"accelerator": "nvidia", "contextLength": 8192, "flashAttention": True}
    assert checked(platform("qwen3:8b", hardware=[{"memory": "12GiB"}], **fits)) is None
    found = finding(platform("qwen3:8b", hardware=[{"memory": "12GiB", "reserve": "4GiB"}], **fits))
    assert found.level is Level.REFUSED


def test_models_that_only_fit_one_at_a_time_are_warned_of() -> None:
    found = finding(platform("qwen3:14b", "gemma3:12b", accelerator="nvidia", hardware=[CARD], flashAttention=True))
    assert (found.level, "take turns" in found.what) == (Level.WARNING, True)
    assert "set it to 1" in found.fix


def test_cards_that_are_not_told_are_a_hint_and_no_refusal() -> None:
    found = finding(platform("qwen3:32b", accelerator="nvidia"))
    assert (found.level, "nobody looked" in found.what) == (Level.NOTE, True)
    assert "hardware:" in found.fix


def test_guesses_warn_and_unknown_models_are_named() -> None:
    guess = finding(platform("nobody/new:70b", accelerator="nvidia", hardware=[CARD]))
    assert (guess.level, "guessed from its name, may be 35% off" in guess.what) == (Level.WARNING, True)
    unknown = finding(platform("nobody/new", accelerator="nvidia", hardware=[CARD]))
    assert (unknown.level, "nobody/new" in unknown.what) == (Level.NOTE, True)


def test_stand_ins_of_the_mirror_are_not_checked() -> None:
    huge = platform("llama3.3:70b", accelerator="nvidia", hardware=[CARD])
    assert checked(huge, source="mirror") is None
    assert finding(huge).refuses


def test_an_engine_elsewhere_is_not_checked() -> None:
    content = GOOD | {
        "models": [{"name": "huge:700b", "aliases": ["default"], "engine": "box"}],
        "memory": {"enabled": False},
        "upstreams": [{"name": "box", "urls": ["http://192.168.1.20:8000"]}],
    }
    assert checked(parse_platform(content, "Pulumi.dev.yaml")) is None


def test_instances_share_the_cards_out() -> None:
    of = platform(
        "qwen3:8b", accelerator="nvidia", instances=2, gpus=["0", "1", "2", "3"], hardware=[CARD, CARD, CARD, CARD]
    )
    at = host(of)
    assert at is not None
    assert len(at.memory) == 2


def test_a_bandwidth_in_terabytes_a_second_is_refused() -> None:
    with pytest.raises(ConfigError, match="from 10 to"):
        platform("qwen3:8b", accelerator="nvidia", hardware=[{"memory": "24GiB", "bandwidth": 1.008}])


def test_a_model_has_to_fit_the_smallest_instance() -> None:
    small, large = {"device": "nvidia-rtx-3060"}, {"device": "nvidia-rtx-4090"}
    of = platform("qwen3:8b", accelerator="nvidia", instances=2, gpus=["0", "1"], hardware=[large, small])
    at = host(of)
    assert at is not None
    assert at.name == "nvidia-rtx-3060"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Request]:
    """Writes a stack file; returns the request to plan it."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("PRIVATE_LLM_STATE", str(tmp_path / "state"))

    def write(models: list[str], engine: dict[str, Any], **words: Any) -> Request:
        listed = [{"name": name, "aliases": ["default"] if not which else []} for which, name in enumerate(models)]
        content = GOOD | {"models": listed, "memory": {"enabled": False}, "engine": engine}
        (tmp_path / "Pulumi.dev.yaml").write_text(yaml.safe_dump({"config": {"private-llm:platform": content}}))
        return Request(command="plan", **words)

    return write


ENGINE = {"accelerator": "nvidia", "hardware": [CARD], "contextLength": 8192}


def test_the_table_has_every_model_and_the_status_says_whether_all_fit(
    stack: Callable[..., Request], capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(stack(["qwen3:8b", "nobody/new"], ENGINE)) == 0
    text = capsys.readouterr().out
    assert "stack dev on nvidia-rtx-4090, 24.0 GiB" in text
    assert "qwen3:8b  4 x 8192" in text
    assert "nobody/new: not known" in text
    assert plan(stack(["qwen3:32b"], ENGINE)) == 1
    assert "qwen3:32b: would fit: contextLength:" in capsys.readouterr().out


def test_json_has_the_same_in_bytes(stack: Callable[..., Request], capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(stack(["qwen3:32b"], ENGINE, json=True)) == 1
    found = json.loads(capsys.readouterr().out)
    (one,) = found["models"]
    parts = {key: size for key, size in one["bytes"].items() if key not in {"total", "budget"}}
    assert (found["version"], one["verdict"], sum(parts.values())) == (1, "does not fit", one["bytes"]["total"])
    assert one["wouldFit"]


def test_without_cards_the_plan_says_what_to_write(stack: Callable[..., Request]) -> None:
    with pytest.raises(OpsError, match="hardware: "):
        plan(stack(["qwen3:8b"], {"accelerator": "nvidia"}))


def test_a_model_file_is_planned_by_its_header(
    stack: Callable[..., Request], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = tmp_path / "small.gguf"
    model.write_bytes(file(LLAMA, TENSORS) + bytes(20_000))
    assert plan(stack(["qwen3:8b"], ENGINE, gguf=str(model))) == 0
    said = capsys.readouterr().out
    assert "small.gguf: within 3%; source: GGUF header" in said
    assert re.search(r"small.gguf: about \d+ .* tokens/s alone", said)
    model.write_bytes(file(LLAMA, TENSORS))
    with pytest.raises(GgufError, match="not complete"):
        plan(stack(["qwen3:8b"], ENGINE, gguf=str(model)))
    with pytest.raises(OpsError, match="no such file"):
        reader(str(tmp_path / "absent.gguf"))


def test_an_architecture_that_was_never_checked_has_a_wider_band(
    stack: Callable[..., Request], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = tmp_path / "new.gguf"
    strange = {key.replace("llama", "martian"): value for key, value in LLAMA.items()}
    model.write_bytes(file(strange | {"general.architecture": "martian"}, TENSORS) + bytes(20_000))
    assert plan(stack(["qwen3:8b"], ENGINE, gguf=str(model))) == 0
    assert "within 20%" in capsys.readouterr().out


@pytest.fixture
def engine(tmp_path: Path) -> DockerCli:
    """A fake engine: `docker exec` runs the same commands here, on a models folder of this test."""
    content, folder = file(LLAMA, TENSORS) + bytes(20_000), tmp_path / "models"
    layer = {"mediaType": WEIGHTS, "digest": "sha256:" + "a" * 64, "size": len(content)}
    manifest = folder / "manifests" / "registry.ollama.ai" / "library" / "small" / "1b"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"layers": [{"mediaType": "other"}, layer]}))
    (folder / "blobs").mkdir()
    (folder / "blobs" / ("sha256-" + "a" * 64)).write_bytes(content)

    def runner(command: Sequence[str], env: Mapping[str, str], limit: float, text: str | None) -> Result:
        assert command[:3] == ["docker", "exec", "private-llm-dev-ollama"]
        return run_process([word.replace("/models", str(folder)) for word in command[3:]], os.environ, limit, text)

    return DockerCli({"DOCKER_HOST": "unix:///x"}, runner=runner)


def test_the_file_of_the_running_engine_is_read(engine: DockerCli) -> None:
    opened = of_engine(engine, "private-llm-dev-ollama", "small:1b")
    assert opened is not None
    part, size = opened
    assert (part(0, 4), size) == (b"GGUF", len(file(LLAMA, TENSORS)) + 20_000)
    assert part(size - 4, 100) == bytes(4)
    assert of_engine(engine, "private-llm-dev-ollama", "absent:1b") is None


def test_what_the_engine_has_is_better_known_than_what_a_name_says(
    engine: DockerCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVATE_LLM_STATE", str(tmp_path / "state"))
    of = platform("small:1b", "qwen3:8b")
    record.remember("dev", source="mirror")
    guess = models(of, "dev", engine)["small:1b"]
    assert guess is not None
    assert guess.guessed, "a stand-in is no model of that name"
    record.remember("dev", source="official")
    found = models(of, "dev", engine)
    assert found["small:1b"] is not None
    assert (found["small:1b"].shape.layers, found["small:1b"].guessed) == (2, False)
    assert found["qwen3:8b"] is not None, "the table has it"
    (tmp_path / "models" / "blobs" / ("sha256-" + "a" * 64)).write_bytes(b"rubbish")
    assert models(of, "dev", engine)["small:1b"] == guess


@pytest.mark.parametrize(
    ("content", "size"),
    [(file(LLAMA), 40 << 30), (file(LLAMA | {"llama.attention.head_count_kv": 0}, TENSORS), None)],
    ids=["weights that are not told of", "a cache of nothing"],
)
def test_a_header_that_makes_a_model_smaller_than_it_is_takes_no_place_of_what_is_known(
    engine: DockerCli, tmp_path: Path, content: bytes, size: int | None
) -> None:
    of, folder = platform("small:1b"), tmp_path / "models"
    before = in_engine(of, FakeDocker().cli(), "dev", "private-llm")
    assert in_engine(of, engine, "dev", "private-llm") != before
    (folder / "blobs" / ("sha256-" + "a" * 64)).write_bytes(content + bytes(20_000))
    (manifest,) = (folder / "manifests").rglob("1b")
    layer = json.loads(manifest.read_text())["layers"][1]
    manifest.write_text(json.dumps({"layers": [layer | {"size": size or len(content) + 20_000}]}))
    assert in_engine(of, engine, "dev", "private-llm") == before


def test_what_is_for_embeddings_stays_so_with_its_file(engine: DockerCli) -> None:
    content = GOOD | {
        "models": [{"name": "qwen3:8b", "aliases": ["default"]}, {"name": "small:1b", "role": "embedding"}],
        "memory": {"enabled": False},
    }
    found = in_engine(parse_platform(content, "Pulumi.dev.yaml"), engine, "dev", "private-llm")
    assert found["small:1b"] is not None
    assert (found["small:1b"].guessed, found["small:1b"].embeds) == (False, True)


def test_an_engine_that_does_not_answer_is_asked_once() -> None:
    asked = []

    def runner(command: Sequence[str], _env: Mapping[str, str], _limit: float, _text: str | None) -> Result:
        asked.append(command)
        raise subprocess.TimeoutExpired(command, 30)

    of = platform("qwen3:8b", "qwen3:14b")
    found = in_engine(of, DockerCli({"DOCKER_HOST": "unix:///x"}, runner=runner), "dev", "private-llm")
    assert None not in found.values(), "the table has both"
    assert len(asked) == 1


def test_up_looks_at_the_running_engines_file_and_not_at_the_name(engine: DockerCli) -> None:
    unknown = platform("small:1b", accelerator="nvidia", hardware=[{"memory": "1GiB"}], contextLength=512)

    def check(docker: DockerCli) -> Finding | None:
        return ModelsFit().check(
            Context(platform=unknown, docker=docker, info={}, host=Host(), project="private-llm", stack="dev")
        )

    before = check(FakeDocker().cli())
    assert before is not None
    assert "guessed from its name" in before.what
    assert check(engine) is None, "its file says that it is small"


class Ranges(BaseHTTPRequestHandler):
    """Serves one file, by ranges or (under /whole) without."""

    content = file(LLAMA, TENSORS) + bytes(20_000)

    def do_GET(self) -> None:
        first, last = (int(part) for part in self.headers["Range"].removeprefix("bytes=").split("-"))
        if self.path == "/whole":
            self.send_response(200)
            self.end_headers()
            return
        part = self.content[first : last + 1]
        self.send_response(206 if part else 416)
        whole = "*" if self.path == "/endless" else len(self.content)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{whole}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def do_POST(self) -> None:
        """As Ollama's /api/show, which has one model, and one that it cannot read."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kinds = {12: "Q4_K", 14: "Q6_K", 1: "F16"}
        tensors = [{"name": name, "type": kinds[kind], "shape": list(size)} for name, size, kind in TENSORS]
        whole = {"model_info": LLAMA, **({"tensors": tensors} if asked.get("verbose") else {})}
        told = {"small:1b": whole, "odd": ["?"]}.get(asked["model"], {"error": f"model '{asked['model']}' not found"})
        content = json.dumps(told).encode()
        self.send_response(200 if self.path == "/api/show" and "error" not in told else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Ranges) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def test_a_file_is_read_by_ranges_over_http(
    server: str, stack: Callable[..., Request], capsys: pytest.CaptureFixture[str]
) -> None:
    read, size = reader(f"{server}/model.gguf")
    assert (read(0, 4), size) == (b"GGUF", len(Ranges.content))
    assert plan(stack(["qwen3:8b"], ENGINE, gguf=f"{server}/model.gguf")) == 0
    assert "model.gguf: within 3%" in capsys.readouterr().out
    assert plan(stack(["qwen3:8b"], ENGINE, gguf=f"{server}/endless")) == 0, "its size is not told, so not compared"


def test_a_server_without_ranges_or_that_is_not_there_is_told_in_words(server: str) -> None:
    with pytest.raises(OpsError, match="answers 200 where a part"):
        reader(f"{server}/whole")
    with pytest.raises(OpsError, match="ConnectionError"):
        reader("http://127.0.0.1:9/model.gguf")


def test_an_ollama_elsewhere_is_asked_for_a_model_that_it_has(
    server: str, stack: Callable[..., Request], capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(stack(["qwen3:8b"], ENGINE, gguf=f"{server}/", model="small:1b")) == 0
    said = capsys.readouterr().out
    assert "small:1b: within 3%; source: Ollama's /api/show" in said
    assert "qwen3:8b" not in said


def test_an_ollama_that_lacks_the_model_or_is_none_is_told_in_words(server: str) -> None:
    with pytest.raises(OpsError, match=r"MODEL=other: model 'other' not found\n"):
        shape(server, "other")
    with pytest.raises(OpsError, match="MODEL=odd: it answers 200"):
        shape(server, "odd")
    with pytest.raises(OpsError, match=r"ConnectionError.*\nfix: "):
        shape("http://127.0.0.1:9", "small:1b")
