"""Bringing models to what is declared: names, manifests, progress, words for failures, and the order of the steps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from stack.inference import reconcile
from stack.inference.reconcile import MODELS, RECORD, Blob, Trouble, blobs, explain, manifest_path, progress, tagged

MODEL: dict[str, Any] = {"name": "m", "from": "m", "digest": None, "insecure": False, "network": None}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("qwen3", "registry.ollama.ai/library/qwen3/latest"),
        ("qwen3:0.6b", "registry.ollama.ai/library/qwen3/0.6b"),
        ("someone/model:q4", "registry.ollama.ai/someone/model/q4"),
        ("hf.co/someone/model:Q4_K_M", "hf.co/someone/model/Q4_K_M"),
        ("mirror-models:5006/library/tiny:latest", "mirror-models:5006/library/tiny/latest"),
        ("mirror-models:5006/library/tiny", "mirror-models:5006/library/tiny/latest"),
    ],
)
def test_where_ollama_keeps_a_manifest(name: str, path: str) -> None:
    assert manifest_path(name) == f"{MODELS}/manifests/{path}"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("m", "m:latest"), ("m:1", "m:1"), ("host:5006/library/m", "host:5006/library/m:latest"), ("a/m:x", "a/m:x")],
)
def test_a_name_gets_its_tag_as_ollama_lists_it(name: str, wanted: str) -> None:
    assert tagged(name) == wanted


def test_a_manifest_names_its_files() -> None:
    layers = [{"digest": "sha256:b", "size": 20}, {"digest": "sha256:c", "size": "30"}]
    manifest = json.dumps({"config": {"digest": "sha256:a", "size": 1}, "layers": layers})
    assert blobs(manifest) == [Blob("sha256:a", 1), Blob("sha256:b", 20), Blob("sha256:c", 30)]
    assert blobs(manifest)[0].path == f"{MODELS}/blobs/sha256-a"


@pytest.mark.parametrize("text", ["", "<html>"])
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        blobs(text)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("pulling 9f438cb9cd58:  37% ▕██   ▏ 200 MB/522 MB   20 MB/s   16s", ("9f438cb9cd58", 37)),
        ("pulling 9f438cb9cd58: 100% ▕██████▏ 522 MB", ("9f438cb9cd58", 100)),
        ("pulling manifest", None),
        ("verifying sha256 digest", None),
        ("", None),
    ],
)
def test_progress_of_a_line(line: str, wanted: tuple[str, int] | None) -> None:
    assert progress(line) == wanted


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("Error: pull model manifest: file does not exist", ["no model 'm'", "ollama.com/library", "platform.models"]),
        ("Error: write /models/blobs/x: no space left on device", ["disk is full", "goes on where it stopped"]),
        (
            "Error: dial tcp: lookup registry.ollama.ai: no such host",
            ["cannot be reached", "network of the Docker host"],
        ),
        ("Error: something new", ["pulling 'm' failed", "something new"]),
    ],
)
def test_a_failed_pull_says_what_to_do(error: str, words: list[str]) -> None:
    text = explain(MODEL, error)
    assert [word for word in words if word not in text] == []


@dataclass
class Daemon:
    """A fake of the docker command: containers' files, and every command it got."""

    files: dict[str, str] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)
    corrupt: set[str] = field(default_factory=set)
    """Files whose content is not what their name says, until they are removed."""

    def docker(self, *args: str, stdin: str | None = None, timeout: float = 60) -> str:
        self.commands.append(list(args))
        match args:
            case ("exec", _, "ollama", "list"):
                return "NAME ID\n" + "\n".join(f"{name}:latest x" for name in ("m", "kept"))
            case ("exec", _, "cat", path):
                if path not in self.files:
                    raise Trouble("no such file")
                return self.files[path]
            case ("exec", _, "sha256sum", path):
                if path in self.corrupt:
                    return f"{'0' * 64}  {path}"
                return f"{hashlib.sha256(self.files[path].encode()).hexdigest()}  {path}"
            case ("exec", _, "rm", "-f", *paths):
                self.corrupt -= set(paths)
            case ("exec", "--interactive", _, "sh", "-c", _):
                self.files[RECORD] = stdin or ""
        return ""

    def did(self, *words: str) -> list[list[str]]:
        return [command for command in self.commands if set(words) <= set(command)]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    fake = Daemon()
    content = "weights"
    digest = "sha256:" + hashlib.sha256(content.encode()).hexdigest()
    layers = {"config": {"digest": digest, "size": 7}, "layers": []}
    fake.files = {manifest_path("m"): json.dumps(layers), f"{MODELS}/blobs/{digest.replace(':', '-')}": content}
    monkeypatch.setattr(reconcile, "docker", fake.docker)
    return fake


@pytest.fixture
def pulls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    done: list[str] = []
    monkeypatch.setattr(reconcile, "pull", lambda _container, model: done.append(model["name"]))
    return done


def test_a_good_model_is_pulled_once(daemon: Daemon, pulls: list[str]) -> None:
    manifest = "sha256:" + hashlib.sha256(daemon.files[manifest_path("m")].encode()).hexdigest()
    assert reconcile.bring("c", MODEL) == {"name": "m:latest", "digest": manifest}
    assert pulls == ["m"]
    assert daemon.did("rm") == []


def test_a_pinned_model_that_is_there_needs_no_registry(daemon: Daemon, pulls: list[str]) -> None:
    pinned = "sha256:" + hashlib.sha256(daemon.files[manifest_path("m")].encode()).hexdigest()
    assert reconcile.bring("c", MODEL | {"digest": pinned}) == {"name": "m:latest", "digest": pinned}
    assert pulls == []


def test_a_pinned_model_with_a_corrupt_file_is_fetched(daemon: Daemon, pulls: list[str]) -> None:
    pinned = "sha256:" + hashlib.sha256(daemon.files[manifest_path("m")].encode()).hexdigest()
    daemon.corrupt = {path for path in daemon.files if "/blobs/" in path}
    reconcile.bring("c", MODEL | {"digest": pinned})
    assert pulls == ["m", "m"]


def test_a_corrupt_file_is_removed_and_fetched_again(daemon: Daemon, pulls: list[str]) -> None:
    (blob,) = [path for path in daemon.files if "/blobs/" in path]
    daemon.corrupt = {blob}
    reconcile.bring("c", MODEL)
    assert daemon.did("rm", "-f", blob)
    assert pulls == ["m", "m"]


def test_a_disk_that_spoils_files_again_is_blamed(
    daemon: Daemon, pulls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "verify", lambda *_: [Blob("sha256:a", 1)])
    with pytest.raises(Trouble, match=r"still corrupt.*disk"):
        reconcile.bring("c", MODEL)
    assert pulls == ["m", "m"]


def test_another_digest_than_the_pinned_one_is_refused(daemon: Daemon, pulls: list[str]) -> None:
    with pytest.raises(Trouble, match=r"sha256:2222.* is pinned"):
        reconcile.bring("c", MODEL | {"digest": "sha256:" + "2" * 64})
    assert pulls


def test_a_model_from_elsewhere_gets_its_own_name(daemon: Daemon, pulls: list[str]) -> None:
    origin = "mirror:5006/library/m:latest"
    daemon.files[manifest_path(origin)] = daemon.files[manifest_path("m")]
    reconcile.bring("c", MODEL | {"from": origin})
    assert daemon.did("cp", origin, "m")
    assert daemon.did("rm", origin)
    assert pulls


def test_only_models_of_ours_are_ever_removed(daemon: Daemon) -> None:
    daemon.files |= {RECORD: '["m:latest", "old:latest"]', manifest_path("old"): "{}", manifest_path("theirs"): "{}"}
    reconcile.remove_dropped("c", {"m:latest"})
    assert [command[-1] for command in daemon.did("ollama", "rm")] == ["old:latest"]
    assert json.loads(daemon.files[RECORD]) == ["m:latest"]


def test_the_record_is_replaced_in_one_step(daemon: Daemon) -> None:
    reconcile.record("c", {"m:latest"})
    ((*_, script),) = daemon.did("--interactive")
    assert script == f"cat > {RECORD}.new && mv {RECORD}.new {RECORD}"


@pytest.fixture
def daemon_calls(monkeypatch: pytest.MonkeyPatch, daemon: Daemon) -> Daemon:
    def run(command: list[str], **_: object) -> None:
        daemon.commands.append(command[1:])

    monkeypatch.setattr("stack.inference.reconcile.subprocess.run", run)
    return daemon


SPEC = {
    "puller": "p-dev-model-pull",
    "engines": ["p-dev-ollama", "p-dev-ollama-2"],
    "stack": "dev",
    "user": 10001,
    "volume": "p-dev-models",
}


def test_the_puller_is_hardened_and_has_the_one_volume(daemon_calls: Daemon) -> None:
    with reconcile.puller(SPEC, "sha256:image", "p-dev-pull"):
        pass
    (run,) = daemon_calls.did("run")
    wanted = {
        "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--read-only", "10001:10001", "p-dev-pull",
        "p-dev-models:/models", "private-llm.stack=dev", "private-llm.service=model-pull",
    }  # fmt: skip
    assert wanted - set(run) == set()
    assert any(word.startswith("--memory=") for word in run)
    assert any(word.startswith("--memory-swap=") for word in run)
    assert not {"--publish", "-p", "--privileged"} & set(run)
    assert run.count("--volume") == 1
    assert run[-2:] == ["sha256:image", "serve"]


def _interrupt() -> None:
    raise KeyboardInterrupt


def _fail() -> None:
    raise Trouble("no")


@pytest.mark.parametrize("end", [_interrupt, _fail])
def test_the_puller_goes_away_however_it_ends(daemon_calls: Daemon, end: Callable[[], None]) -> None:
    with pytest.raises((KeyboardInterrupt, Trouble)), reconcile.puller(SPEC, "i", "n"):
        end()
    assert daemon_calls.commands[0] == daemon_calls.commands[-1] == ["rm", "-f", "p-dev-model-pull"]


def test_models_of_one_network_share_a_container(daemon_calls: Daemon, pulls: list[str]) -> None:
    models = [MODEL, MODEL | {"network": "elsewhere"}, MODEL]
    result = reconcile.reconcile(SPEC | {"models": models}, "i", "p-dev-pull")
    networks = [run[run.index("--network") + 1] for run in daemon_calls.did("run")]
    assert networks == ["p-dev-pull", "elsewhere"]
    assert len(result) == len(pulls) == 3


def test_every_engine_lists_every_model_in_the_end(daemon_calls: Daemon, pulls: list[str]) -> None:
    reconcile.reconcile(SPEC | {"models": [MODEL]}, "i", "p-dev-pull")
    assert len(pulls) == 1
    assert [command[1] for command in daemon_calls.commands[-2:]] == SPEC["engines"]
    assert all(command[2:] == ["ollama", "list"] for command in daemon_calls.commands[-2:])


def test_models_are_recorded_as_ours_before_the_first_pull(
    daemon_calls: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon_calls.files[RECORD] = '["old:latest"]'

    def interrupted(_container: str, _model: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reconcile, "pull", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reconcile.reconcile(SPEC | {"models": [MODEL]}, "i", "p-dev-pull")
    assert json.loads(daemon_calls.files[RECORD]) == ["m:latest", "old:latest"]


def test_a_failure_is_told_in_one_line_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("MODEL_SET", "MODEL_SET_IMAGE", "MODEL_SET_NETWORK"):
        monkeypatch.setenv(name, "{}")
    monkeypatch.setattr("stack.inference.reconcile.signal.signal", lambda *_: None)
    for end, status in ((_fail, 1), (_interrupt, 130)):
        monkeypatch.setattr(reconcile, "reconcile", lambda *_, end=end: end())
        assert reconcile.main() == status
    written = capsys.readouterr()
    assert written.out == ""
    assert [line.partition(" ")[0] for line in written.err.splitlines()] == ["models:", "models:"]


def test_the_summary_is_one_line_of_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("MODEL_SET", "MODEL_SET_IMAGE", "MODEL_SET_NETWORK"):
        monkeypatch.setenv(name, "{}")
    monkeypatch.setattr("stack.inference.reconcile.signal.signal", lambda *_: None)
    monkeypatch.setattr(reconcile, "reconcile", lambda *_: [{"name": "m:latest", "digest": "sha256:a"}])
    assert reconcile.main() == 0
    assert json.loads(capsys.readouterr().out) == [{"name": "m:latest", "digest": "sha256:a"}]
