"""Create the stand-in models with a real engine and push them into the image store with a real registry.

Both programs run on this machine for a few seconds, on free loopback ports, with throw-away folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from offline.errors import OfflineError
from offline.gomod import Say, run_logged
from offline.images.store import Store, replace_with
from offline.models import chat, embed, gguf, words


@dataclass(frozen=True)
class Model:
    """A model: its role in the platform, its name, what makes the file, what the engine is told about it."""

    role: str
    name: str
    build: Callable[[], bytes]
    modelfile: str
    note: str

    @property
    def reference(self) -> str:
        """Repository and tag inside the registry, in the engine's spelling."""
        return f"library/{self.name}:latest"


MODELS = (
    Model("chat", "tiny-chat", chat.build, chat.MODELFILE, "generated stand-in, speaks gibberish"),
    Model("embedding", "tiny-embed", embed.build, embed.MODELFILE, "generated stand-in, finds texts that share words"),
)


def recipe(engine_recipe: str) -> str:
    """Identifies what the pushed models were made from: their code, and the engine that made them."""
    sources = [Path(module.__file__ or "").read_bytes() for module in (chat, embed, gguf, words)]
    code = Path(__file__).read_bytes()
    return hashlib.sha256(b"\0".join([*sources, code, engine_recipe.encode()])).hexdigest()


def publish(store: Store, engine: Path, registry: Path, record: Path, log: Path, say: Say) -> None:
    """Put both models into `store` by the `engine` and `registry` programs; `record` remembers their digests.

    Raises OfflineError.
    """
    say("making the stand-in models tiny-chat and tiny-embed (about 0.2 min)...")
    started = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="models-", dir=record.parent.parent) as folder, log.open("wb") as output:
        work, port, engine_port = Path(folder), free_port(), free_port()
        client = {**os.environ, "HOME": folder, "OLLAMA_HOST": f"127.0.0.1:{engine_port}", "NO_PROXY": "127.0.0.1"}
        for model in MODELS:
            (work / f"{model.name}.gguf").write_bytes(model.build())
            (work / f"{model.name}.Modelfile").write_text(model.modelfile)
        config = work / "registry.yml"
        config.write_text(json.dumps(registry_settings(store, port)))
        serve = client | {"OLLAMA_MODELS": str(work / "models"), "OLLAMA_NO_CLOUD": "1"}
        with (
            running([str(registry), "serve", str(config)], folder, os.environ, output),
            running([str(engine), "serve"], folder, serve, output),
        ):
            wait_for(f"http://127.0.0.1:{port}/v2/", log)
            wait_for(f"http://127.0.0.1:{engine_port}/api/version", log)
            for model in MODELS:
                name = f"127.0.0.1:{port}/{model.reference}"
                for step in (["create", name, "-f", f"{model.name}.Modelfile"], ["push", "--insecure", name]):
                    run_logged(
                        [str(engine), *step],
                        folder,
                        client,
                        log.with_suffix(".ollama.log"),
                        f"`ollama {step[0]}` of {model.name} failed (the servers' log: {log})",
                    )
    missing = [model.name for model in MODELS if not present(store, model)]
    if missing:
        raise OfflineError(f"{', '.join(missing)} did not arrive in {store.folder}; the servers' log: {log}")
    digests = {}
    for model in MODELS:
        pushed = store.blob(store.tagged(model.reference) or "").read_bytes()
        digests[model.reference] = store.tag_manifest(model.reference, without_origin(pushed))
    replace_with(record, json.dumps(digests).encode())
    record.touch()  # from the fixed time that the store gives to now: old records are forgotten
    say(f"made tiny-chat and tiny-embed in {time.monotonic() - started:.0f} s")


def select(store: Store, record: Path) -> bool:
    """Point the models' tags to what `record` names; False when that is not (or no longer wholly) in the store."""
    try:
        digests: dict[str, str] = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return False
    if not all(store.complete(digest) for digest in digests.values()):
        return False
    record.touch()
    for reference, digest in digests.items():
        if store.tagged(reference) != digest:
            store.tag_manifest(reference, store.blob(digest).read_bytes())
    return True


def without_origin(manifest: bytes) -> bytes:
    """A model's manifest without the file names of the machine that made it: the same digest everywhere.

    Keys keep their order: the engine writes a pulled manifest anew, and what it writes must have this digest.
    """
    content = json.loads(manifest)
    for layer in content["layers"]:
        layer.pop("from", None)
    return json.dumps(content, separators=(",", ":")).encode()


def present(store: Store, model: Model) -> bool:
    """True when the store can serve the whole model."""
    digest = store.tagged(model.reference)
    return digest is not None and store.complete(digest)


def registry_settings(store: Store, port: int) -> dict[str, object]:
    """The registry program's configuration (JSON is YAML)."""
    return {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(store.folder)}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }


@contextlib.contextmanager
def running(command: list[str], folder: str, env: Mapping[str, str], output: object) -> Iterator[None]:
    """A program that runs as long as the block does, also when the block ends by Ctrl-C."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,  # type: ignore[call-overload]
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(address: str, log: Path, seconds: float = 30) -> None:
    """Wait until a server answers 200. Raises OfflineError naming its log."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + seconds
    while True:
        try:
            with opener.open(address, timeout=2):
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > end:
                raise OfflineError(f"{address} did not answer within {seconds:g} s ({error}); see {log}") from error
        time.sleep(0.1)
