"""Brings the models of an Ollama volume to what is declared. Run by the `ModelSet` command; standard library only.

A one-shot container of the engine's image shares the model volume and alone has a way out; those that serve have none.
Reads the environment: MODEL_SET (JSON), MODEL_SET_IMAGE, MODEL_SET_NETWORK. Progress goes to standard error, one JSON
summary to standard output. Interrupted pulls resume at the next run: nothing that was fetched is thrown away.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn

MODELS: Final = "/models"
RECORD: Final = f"{MODELS}/private-llm-models.json"  # names that were pulled by us: only those are ever removed
REGISTRY: Final = "registry.ollama.ai"
READY_TIMEOUT: Final = 120.0  # seconds
PROGRESS_EVERY: Final = 5.0  # seconds
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Trouble(Exception):
    """What went wrong, in words for the person who ran `make up`."""


@dataclass(frozen=True)
class Blob:
    """A file of a model: its digest and size in bytes."""

    digest: str
    size: int

    @property
    def path(self) -> str:
        """Where Ollama keeps it."""
        return f"{MODELS}/blobs/{self.digest.replace(':', '-')}"


def manifest_path(name: str) -> str:
    """Where Ollama keeps the manifest of a model name (`[host/][namespace/]model[:tag]`)."""
    parts = name.split("/")
    model, _, tag = parts[-1].partition(":")
    host = parts[0] if len(parts) == 3 else REGISTRY
    namespace = parts[-2] if len(parts) > 1 else "library"
    return f"{MODELS}/manifests/{host}/{namespace}/{model}/{tag or 'latest'}"


def blobs(manifest: str) -> list[Blob]:
    """The files that a manifest names. Raises ValueError when it is not one."""
    data = json.loads(manifest)
    return [Blob(layer["digest"], int(layer["size"])) for layer in [data["config"], *data["layers"]]]


def progress(line: str) -> tuple[str, int] | None:
    """(what, percent) of a line of `ollama pull`, None for lines without a figure."""
    found = re.search(r"pulling ([0-9a-f]+):\s+(\d+)%", line)
    return (found[1], int(found[2])) if found else None


def say(text: str) -> None:
    """One line of progress."""
    print(f"models: {text}", file=sys.stderr, flush=True)


def docker(*args: str, stdin: str | None = None, timeout: float = 60) -> str:
    """Output of a docker command. Raises Trouble with its error text."""
    try:
        done = subprocess.run(
            ["docker", *args], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise Trouble(f"docker {args[0]} did not answer within {timeout:.0f} s") from None
    if done.returncode:
        raise Trouble(done.stderr.strip() or f"docker {args[0]} failed with status {done.returncode}")
    return done.stdout


@contextmanager
def puller(spec: dict[str, Any], image: str, network: str) -> Iterator[str]:
    """A running one-shot container with the model volume; always removed, also after Ctrl-C."""
    name = spec["puller"]
    subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False)
    hardening = ["--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--read-only"]
    limits = ["--tmpfs=/tmp:mode=1777,size=64m", "--memory=2g", "--memory-swap=2g", "--log-opt=max-size=10m"]
    environment = ["HOME=/tmp", f"OLLAMA_MODELS={MODELS}", "OLLAMA_HOST=127.0.0.1:11434", "OLLAMA_NOPRUNE=1"]
    docker(
        "run", "--detach", "--name", name, "--network", network, "--user", f"{spec['user']}:{spec['user']}",
        "--label", f"private-llm.stack={spec['stack']}", "--label", "private-llm.service=model-pull",
        *hardening, *limits, "--volume", f"{spec['volume']}:{MODELS}",
        *[word for setting in environment for word in ("--env", setting)], image, "serve",
    )  # fmt: skip
    try:
        wait_for(name)
        yield name
    finally:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False)


def wait_for(container: str, model: str | None = None) -> None:
    """Waits until the Ollama in a container answers (and lists a model)."""
    deadline, last = time.monotonic() + READY_TIMEOUT, ""
    while time.monotonic() < deadline:
        try:
            last = docker("exec", container, "ollama", "list")
            if model is None or any(line.split()[:1] == [tagged(model)] for line in last.splitlines()):
                return
        except Trouble as trouble:
            last = str(trouble)
        time.sleep(0.5)
    wanted = f"does not list {model}" if model else "does not answer"
    raise Trouble(f"container {container} {wanted} after {READY_TIMEOUT:.0f} s; it last said: {last.strip()[-300:]}")


def tagged(name: str) -> str:
    """The name with its tag, as `ollama list` writes it."""
    return name if ":" in name.rsplit("/", maxsplit=1)[-1] else f"{name}:latest"


def read_file(container: str, path: str) -> str | None:
    """Text of a file in the container, None when it is not there."""
    try:
        return docker("exec", container, "cat", path)
    except Trouble:
        return None


def digest_of(container: str, path: str, timeout: float = 3600) -> str:
    """`sha256:…` of a file in the container, empty when it is not there."""
    try:
        return "sha256:" + docker("exec", container, "sha256sum", path, timeout=timeout).split()[0]
    except Trouble:
        return ""


def pull(container: str, model: dict[str, Any]) -> None:
    """Runs the pull and shows its progress, a line every few seconds."""
    origin = model["from"]
    command = ["docker", "exec", container, "ollama", "pull", *(["--insecure"] if model["insecure"] else []), origin]
    said, shown, last = 0.0, -1, ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        for raw in running.stdout or ():
            line = _ESCAPES.sub("", raw).strip().rpartition("\r")[2].strip()
            last = line or last
            figure = progress(line)
            if figure and figure[1] != shown and (time.monotonic() - said > PROGRESS_EVERY or figure[1] == 100):
                say(f"{model['name']}: pulling {figure[0]} {figure[1]}%")
                said, shown = time.monotonic(), figure[1]
    if running.returncode:
        raise Trouble(explain(model, last))


def explain(model: dict[str, Any], error: str) -> str:
    """Ollama's last line of a failed pull, in words that say what to do."""
    name = model["name"]
    lower = error.lower()
    if "file does not exist" in lower or "not found" in lower:
        return (
            f"the registry has no model {name!r}; check its name and tag in private-llm:platform.models "
            "(the list of models: https://ollama.com/library)"
        )
    if "no space left" in lower:
        return (
            f"the disk is full while pulling {name!r}; free some space where Docker keeps its volumes, then run "
            "`make up` again: the pull goes on where it stopped"
        )
    if any(word in lower for word in ("dial tcp", "lookup", "timeout", "connection refused", "unreachable", "eof")):
        return (
            f"the registry of {name!r} cannot be reached ({error}); check the network of the Docker host, then run "
            "`make up` again: the pull goes on where it stopped"
        )
    return f"pulling {name!r} failed: {error}"


def verify(container: str, name: str) -> list[Blob]:
    """The blobs of a pulled model that are missing or are not what their name says."""
    manifest = read_file(container, manifest_path(name))
    if manifest is None:
        raise Trouble(f"{name} was pulled but has no manifest at {manifest_path(name)}")
    return [blob for blob in blobs(manifest) if digest_of(container, blob.path) != blob.digest]


def bring(container: str, model: dict[str, Any]) -> dict[str, str]:
    """Pulls one model, repairs what is corrupt, checks its digest, gives it its name."""
    name, origin = model["name"], model["from"]
    started = time.monotonic()
    if model["digest"] and digest_of(container, manifest_path(name)) == model["digest"] and not verify(container, name):
        say(f"{name}: there with its pinned digest, verified in {time.monotonic() - started:.0f} s")
        return {"name": tagged(name), "digest": model["digest"]}
    pull(container, model)
    bad = verify(container, origin)
    if bad:
        say(f"{name}: {len(bad)} corrupt file(s) found, fetching again")
        # Ollama takes a file that exists for a good one, so the bad ones have to go first.
        docker("exec", container, "rm", "-f", *[blob.path for blob in bad])
        pull(container, model)
        if verify(container, origin):
            raise Trouble(f"{name} is still corrupt after fetching it again; check the disk of the Docker host")
    digest = digest_of(container, manifest_path(origin))
    if model["digest"] and digest != model["digest"]:
        raise Trouble(
            f"{name} has digest {digest}, but {model['digest']} is pinned; if the new one is wanted, change "
            "the digest in private-llm:platform.models"
        )
    if tagged(origin) != tagged(name):
        docker("exec", container, "ollama", "cp", origin, name)
        docker("exec", container, "ollama", "rm", origin)
    say(f"{name}: ready, {digest[:19]}, verified in {time.monotonic() - started:.0f} s")
    return {"name": tagged(name), "digest": digest}


def recorded(container: str) -> set[str]:
    """The names of the models that earlier runs pulled, finished or not."""
    record = read_file(container, RECORD)
    return set(json.loads(record)) if record else set()


def record(container: str, names: set[str]) -> None:
    """Writes them in one step: half a record would make the rest of our models nobody's."""
    write = f"cat > {RECORD}.new && mv {RECORD}.new {RECORD}"
    docker("exec", "--interactive", container, "sh", "-c", write, stdin=json.dumps(sorted(names)))


def remove_dropped(container: str, wanted: set[str]) -> None:
    """Removes models that an earlier run pulled and that are declared no more; others are left alone."""
    for name in sorted(recorded(container) - wanted):
        if read_file(container, manifest_path(name)) is not None:
            say(f"{name}: no longer declared, removing")
            docker("exec", container, "ollama", "rm", name)
    record(container, wanted)


def reconcile(spec: dict[str, Any], image: str, network: str) -> list[dict[str, str]]:
    """Does all of it; models of one network share a container."""
    models: list[dict[str, Any]] = spec["models"]
    result = []
    wanted = {tagged(model["name"]) for model in models}
    places = list(dict.fromkeys(model["network"] or network for model in models))
    for place in places:
        with puller(spec, image, place) as container:
            # Before the first pull: what an interrupted run has fetched is ours too.
            record(container, recorded(container) | wanted)
            result += [bring(container, model) for model in models if (model["network"] or network) == place]
            if place == places[-1]:
                remove_dropped(container, wanted)
    for engine in spec["engines"]:
        for model in models:
            wait_for(engine, model["name"])
    return result


def _stop(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Exit status 0 when every model is there and verified."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        result = reconcile(
            json.loads(os.environ["MODEL_SET"]), os.environ["MODEL_SET_IMAGE"], os.environ["MODEL_SET_NETWORK"]
        )
    except Trouble as trouble:
        say(f"error: {trouble}")
        return 1
    except KeyboardInterrupt:
        say("stopped; run `make up` again to go on where this stopped")
        return 130
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
