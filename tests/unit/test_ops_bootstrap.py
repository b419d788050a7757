"""What is there is used, else the official source, else package mirrors; and nothing is chosen twice."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ops import bootstrap, engine, official, paths, record, registry, request, sources
from ops.errors import OpsError
from stack.config.explain import parse_platform
from stack.versions import IMAGES, PULUMI

DIGEST = "sha256:" + "a" * 64


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """State and cache of their own."""
    monkeypatch.setenv("PRIVATE_LLM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PRIVATE_LLM_CACHE", str(tmp_path / "cache"))
    return tmp_path


def quiet(_line: str) -> None:
    """Nobody listens."""


class TestSource:
    def test_official_when_all_answer(self) -> None:
        assert sources.detect(lambda _url: True, lambda _seconds: None) == "official"

    def test_mirror_after_three_tries_with_one_of_them_silent(self) -> None:
        asked: list[str] = []

        def probe(url: str) -> bool:
            asked.append(url)
            return "registry" not in url

        pauses: list[float] = []
        assert sources.detect(probe, pauses.append) == "mirror"
        assert len(asked) == sources.TRIES * len(sources.PROBES)
        assert len(pauses) == sources.TRIES - 1

    def test_a_name_server_that_hangs_does_not_hold_us(self) -> None:
        never = threading.Event()
        assert not sources.all_answer(("one",), lambda _url: never.wait(30), limit=0.05)
        never.set()

    def test_worst_case_is_under_15_seconds(self) -> None:
        assert sources.TRIES * sources.LIMIT + sum(sources.PAUSES) < 15

    def test_is_sticky_and_can_be_overridden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines: list[str] = []
        monkeypatch.setattr(sources, "detect", lambda: "mirror")
        assert sources.choose("dev", None, lines.append) == "mirror"
        monkeypatch.setattr(sources, "detect", lambda: "official")
        assert sources.choose("dev", None, lines.append) == "mirror"
        assert len(lines) == 1
        assert sources.choose("dev", "official", lines.append) == "official"
        assert "it was mirror" in lines[1]
        assert record.load("dev").source == "official"

    def test_damaged_record_says_what_to_do(self) -> None:
        record.file("dev").write_text("{")
        with pytest.raises(OpsError, match="SOURCE=official"):
            record.load("dev")


@pytest.mark.parametrize(
    ("version", "good"),
    [("v3.250.0", True), ("3.251.3", True), ("v3.249.9", False), ("v4.0.0", False), ("", False), ("v3.250", False)],
)
def test_cli_on_path_needs_the_same_major_and_no_older(version: str, good: bool) -> None:
    assert bootstrap.new_enough(version, "3.250.0") is good


def test_a_cli_on_path_that_hangs_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("pulumi", "pulumi-language-python"):
        (tmp_path / name).write_text("#!/bin/sh\n")

    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("pulumi", 30)

    monkeypatch.setattr("shutil.which", lambda _name: str(tmp_path / "pulumi"))
    monkeypatch.setattr("subprocess.run", hang)
    lines: list[str] = []
    assert bootstrap.on_path("dev", lines.append) is None
    assert "is not used" in lines[0]


def test_unwritable_cache_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "PRIVATE_LLM_CACHE" in str(bootstrap.cache_problem(tmp_path / "cache"))


class TestRequest:
    def test_words_are_read(self) -> None:
        env = {"STACK": "prod", "SOURCE": "mirror", "HOST": "none", "DATA": "delete", "CONFIRM": "prod"}
        found = request.parse("up", env)
        assert (found.stack, found.source, found.host_checks, found.delete_data) == ("prod", "mirror", False, True)

    def test_a_computers_name_in_host_is_no_word(self) -> None:
        assert request.parse("up", {"HOST": "my-laptop"}).host_checks

    @pytest.mark.parametrize(
        "env", [{"STACK": "Dev"}, {"STACK": "a/b"}, {"SOURCE": "x"}, {"DATA": "yes"}, {"COLD": "2"}]
    )
    def test_wrong_words_are_refused(self, env: dict[str, str]) -> None:
        with pytest.raises(OpsError, match=f"^{next(iter(env))}="):
            request.parse("up", env)


class TestEngine:
    def test_distribution(self) -> None:
        text = 'PRETTY_NAME="Debian 12"\nVERSION_CODENAME=bookworm\nID=debian\n'
        assert engine.distribution(text) == ("debian", "bookworm")

    @pytest.mark.parametrize(("version", "number"), [("28.2.2", 28), ("20.10.24+dfsg1", 20), ("dev", 0)])
    def test_major(self, version: str, number: int) -> None:
        assert engine.major(version) == number

    def test_missing_docker_without_root_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        with pytest.raises(OpsError, match=r"not installed(.|\n)*fix:"):
            engine.install("mirror", quiet)


class TestDockersPackages:
    """The key that root's package manager will trust."""

    def test_a_release_without_a_name_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(OpsError, match="VERSION_CODENAME"):
            engine.add_docker_apt("debian", "", quiet, tmp_path)

    def test_a_key_that_cannot_be_fetched_is_told(
        self, server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(engine, "DOCKER_APT", f"http://{server}")
        with pytest.raises(OpsError, match=r"cannot be fetched(.|\n)*fix:"):
            engine.add_docker_apt("debian", "bookworm", quiet, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_another_key_is_refused(self, server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        Files.table["/debian/gpg"] = b"no key"
        monkeypatch.setattr(engine, "DOCKER_APT", f"http://{server}")
        monkeypatch.setattr("shutil.which", lambda _name: "/usr/bin/gpg")
        listing = b"pub:::::::::\nfpr:::::::::" + b"A" * 40 + b":\n"
        monkeypatch.setattr("subprocess.run", lambda *_, **__: subprocess.CompletedProcess([], 0, listing, b""))
        with pytest.raises(OpsError, match="another key"):
            engine.add_docker_apt("debian", "bookworm", quiet, tmp_path)
        assert not list(tmp_path.iterdir())
        right = listing.replace(b"A" * 40, engine.DOCKER_KEY.encode())
        monkeypatch.setattr("subprocess.run", lambda *_, **__: subprocess.CompletedProcess([], 0, right, b""))
        engine.add_docker_apt("debian", "bookworm", quiet, tmp_path)
        assert "bookworm stable" in (tmp_path / "sources.list.d" / "docker.list").read_text()

    def test_without_gpg_it_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.which", lambda _name: None)
        lines: list[str] = []
        engine.check_key(b"", "here", lines.append)
        assert "not checked" in lines[0]


class Files(BaseHTTPRequestHandler):
    """Serves a table of paths; `/v2/` wants a token first, as registries do."""

    table: dict[str, bytes]

    def do_HEAD(self) -> None:
        if self.path.startswith("/v2/") and self.headers.get("Authorization") != "Bearer good":
            self.send_response(401)
            realm = f"http://{self.headers['Host']}/token"
            self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="here",scope="pull"')
        elif self.path.startswith("/v2/known/"):
            self.send_response(200)
            self.send_header("Docker-Content-Digest", DIGEST)
        else:
            self.send_response(404)
        self.end_headers()

    def do_GET(self) -> None:
        body = self.table.get(self.path.split("?")[0])
        self.send_response(200 if body is not None else 404)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """No lines in the tests' output."""


@pytest.fixture
def server() -> Iterator[str]:
    """host:port of a server whose files the test sets in `Files.table`."""
    Files.table = {"/token": b'{"token": "good"}'}
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{http.server_address[1]}"
        http.shutdown()


class TestRegistry:
    def test_digest_with_a_token(self, server: str) -> None:
        assert registry.digest(f"{server}/known/image:1") == f"{server}/known/image:1@{DIGEST}"

    def test_unknown_image_names_itself(self, server: str) -> None:
        with pytest.raises(OpsError, match="other/image:1"):
            registry.digest(f"{server}/other/image:1")

    def test_lock_is_complete_only_for_the_versions_of_now(self, tmp_path: Path) -> None:
        lock = tmp_path / "lock.json"
        assert not registry.complete(lock, IMAGES)
        registry.resolve(lock, quiet, IMAGES, look_up=lambda reference: f"{reference}@{DIGEST}")
        assert registry.complete(lock, IMAGES)
        data = json.loads(lock.read_text())
        data["images"]["ollama"] = f"docker.io/ollama/ollama:0.1@{DIGEST}"
        lock.write_text(json.dumps(data))
        assert not registry.complete(lock, IMAGES)
        assert registry.complete(lock, ["base", "chroma"])

    def test_only_what_is_needed_must_be_there(self, tmp_path: Path) -> None:
        lock, asked, lines = tmp_path / "lock.json", list[str](), list[str]()

        def look_up(reference: str) -> str:
            asked.append(reference)
            if "grafana" in reference:
                raise OpsError(f"the registry does not give the digest of {reference}\nfix: none")
            return f"{reference}@{DIGEST}"

        registry.resolve(lock, lines.append, ["base", "ollama"], ["grafana"], look_up)
        assert set(json.loads(lock.read_text())["images"]) == {"base", "ollama"}
        assert "without grafana" in lines[-1]
        registry.resolve(lock, lines.append, ["base", "chroma"], look_up=look_up)
        assert asked.count(IMAGES["base"]) == 1
        assert set(json.loads(lock.read_text())["images"]) == {"base", "ollama", "chroma"}
        with pytest.raises(OpsError, match="grafana"):
            registry.resolve(lock, quiet, ["grafana"], look_up=look_up)
        assert "grafana" not in json.loads(lock.read_text())["images"]

    def test_grafana_is_an_extra_where_it_is_wanted(self) -> None:
        base = {"models": [{"name": "t", "aliases": ["default"]}, {"name": "e", "role": "embedding"}]}
        consumers = {"consumers": [{"name": "default"}, {"name": "chat"}]}
        off = parse_platform({**base, **consumers, "observability": {"grafana": False}}, "x")
        on = parse_platform({**base, **consumers, "observability": {"grafana": True}}, "x")
        assert (bootstrap.extras(off), bootstrap.extras(on)) == ([], ["grafana"])

    def test_every_image_has_the_form_that_registries_need(self) -> None:
        assert all(registry.split(reference) for reference in IMAGES.values())


class TestOfficialPulumi:
    @pytest.fixture
    def release(self, server: str) -> str:
        """A release with one program."""
        name = official.archive_name("Linux", "x86_64")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as tar:
            info = tarfile.TarInfo("pulumi/pulumi")
            info.size, info.mode = 2, 0o755
            tar.addfile(info, io.BytesIO(b"hi"))
        archive = packed.getvalue()
        Files.table[f"/{name}"] = archive
        sums = f"{hashlib.sha256(archive).hexdigest()}  {name}\n"
        Files.table[f"/pulumi-{PULUMI}-checksums.txt"] = sums.encode()
        return f"http://{server}"

    @pytest.fixture(autouse=True)
    def linux(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.system", lambda: "Linux")
        monkeypatch.setattr("platform.machine", lambda: "x86_64")

    def test_is_unpacked_after_its_checksum(self, release: str) -> None:
        programs = official.install_pulumi(quiet, release)
        assert (programs / "pulumi").read_text() == "hi"

    def test_bad_checksum_installs_nothing(self, release: str) -> None:
        Files.table[f"/{official.archive_name('Linux', 'x86_64')}"] += b"x"
        with pytest.raises(OpsError, match="nothing was installed"):
            official.install_pulumi(quiet, release)
        assert not official.pulumi_home().exists()

    def test_machines_without_a_release_are_told(self) -> None:
        with pytest.raises(OpsError, match="allowed are"):
            official.archive_name("Linux", "riscv64")


def test_stand_in_is_told_from_an_official_plugin(tmp_path: Path) -> None:
    script, program = tmp_path / "script", tmp_path / "program"
    script.write_text("#!/bin/sh\n")
    program.write_bytes(b"\x7fELF")
    assert not official.is_official(script)
    assert official.is_official(program)
    assert not official.is_official(tmp_path / "absent")


def test_state_and_passphrases_are_apart_and_private() -> None:
    assert paths.state() not in paths.passphrases().parents
    assert record.folder().stat().st_mode & 0o077 == 0
