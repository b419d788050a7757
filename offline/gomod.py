"""Build command line programs from Go modules, pinned, into a folder of the cache.

`go install pkg@version` asks a module proxy for its list of versions, which some mirrors refuse. A wrapper module that
requires the exact version, built with `-mod=mod`, needs nothing but that version.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from offline.errors import OfflineError

GO_VERSION = "1.26.8"
GO_ZIP_SHA256 = {
    "amd64": "30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7",
    "arm64": "02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99",
}
OLDEST_GO = (1, 26)

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class GoProgram:
    """One program of one Go module.

    `replaces` are (old module, new module, version of the new one); `stamps` are Go string variables set by the
    linker; `minutes` is what a cold build takes on two cores, for the progress line.
    """

    binary: str
    package: str
    module: str
    version: str
    minutes: float
    title: str = ""
    replaces: tuple[tuple[str, str, str], ...] = ()
    stamps: Mapping[str, str] | None = None
    cgo: bool = False
    tags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What a person calls it in progress lines."""
        return self.title or self.binary

    @property
    def shown_version(self) -> str:
        """The version that is really built: of the replacement when the module itself is replaced."""
        return next((version for old, _, version in self.replaces if old == self.module), self.version)


def go_mod_text(program: GoProgram) -> str:
    """The `go.mod` of the wrapper module."""
    lines = ["module private-llm.invalid/wrapper", "", "go 1.25.0", "", f"require {program.module} {program.version}"]
    lines += [f"replace {old} => {new} {version}" for old, new, version in program.replaces]
    return "\n".join(lines) + "\n"


def build_command(go: Path, program: GoProgram, out: Path) -> list[str]:
    """The `go build` command line; `-s -w` leaves the debug tables out (a third of the size)."""
    ldflags = " ".join(["-s", "-w", *(f"-X {key}={value}" for key, value in (program.stamps or {}).items())])
    tags = ["-tags", ",".join(program.tags)] if program.tags else []
    return [str(go), "build", "-mod=mod", *tags, "-ldflags", ldflags, "-o", str(out), program.package]


def recipe(program: GoProgram) -> str:
    """Identifies what a built binary was made from: changes exactly when it has to be built again."""
    text = go_mod_text(program) + "\0".join(build_command(Path("go"), program, Path("out"))) + str(program.cgo)
    return hashlib.sha256(text.encode()).hexdigest()


def build(program: GoProgram, into: Path, cache: Path, say: Say) -> Path:
    """Build `program` as `into/<binary>` unless it is there already from the same recipe; return its path.

    The compiler's output goes to a log under `<cache>/logs`, named in the error. Raises OfflineError.
    """
    target, stamp = into / program.binary, into / f".{program.binary}.recipe"
    wanted = recipe(program)
    if is_built(target, stamp, wanted):
        return target
    with locked(into / f".{program.binary}.lock", say, f"{program.name} is being built by another run; waiting..."):
        if is_built(target, stamp, wanted):
            return target
        go = ensure_go(cache, say)
        say(f"building {program.name} {program.shown_version} from its Go module (about {program.minutes:g} min)...")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="wrapper-", dir=scratch(cache)) as folder:
            out = Path(folder) / program.binary
            (Path(folder) / "go.mod").write_text(go_mod_text(program))
            run_logged(
                build_command(go, program, out),
                folder,
                go_environment(cache, cgo=program.cgo),
                cache / "logs" / f"build-{program.binary}.log",
                f"{program.name} {program.shown_version} did not build",
            )
            out.chmod(0o755)
            out.replace(target)
        stamp.write_text(wanted)
        say(f"built {program.name} {program.shown_version} in {time.monotonic() - started:.0f} s")
    return target


def is_built(target: Path, stamp: Path, wanted: str) -> bool:
    """True when `target` stands there and was made by the recipe `wanted`."""
    try:
        return target.is_file() and stamp.read_text() == wanted
    except OSError:
        return False


def module_folder(program: GoProgram, cache: Path, say: Say) -> Path:
    """The unpacked sources of a program's module in the module cache; downloads them when missing."""
    folder = cache / "go" / "mod" / f"{escaped(program.module)}@{escaped(program.version)}"
    if not folder.is_dir():
        go = ensure_go(cache, say)
        with tempfile.TemporaryDirectory(prefix="wrapper-", dir=scratch(cache)) as work:
            (Path(work) / "go.mod").write_text(go_mod_text(program))
            run_logged(
                [str(go), "mod", "download", f"{program.module}@{program.version}"],
                work,
                go_environment(cache),
                cache / "logs" / f"download-{program.binary}.log",
                f"the sources of {program.name} did not download",
            )
    return folder


def escaped(path: str) -> str:
    """Go's file name for a module path or version: every capital letter becomes `!` and its small letter."""
    return re.sub(r"[A-Z]", lambda capital: "!" + capital.group().lower(), path)


def go_environment(cache: Path, *, cgo: bool = False) -> dict[str, str]:
    """The environment of every Go call: caches inside `cache`, writable so that they can be deleted."""
    return {
        **os.environ,
        "GOMODCACHE": str(cache / "go" / "mod"),
        "GOCACHE": str(cache / "go" / "build"),
        "GOFLAGS": "-modcacherw -buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "1" if cgo else "0",
    }


def ensure_go(cache: Path, say: Say) -> Path:
    """A `go` command of at least OLDEST_GO: the one on PATH, or one unpacked into the cache. Raises OfflineError."""
    found = shutil.which("go")
    if found and go_version(found) >= OLDEST_GO:
        return Path(found)
    home = cache / "tools" / f"go-{GO_VERSION}"
    command = home / "bin" / "go"
    if command.is_file():
        return command
    with locked(cache / "tools" / ".go.lock", say, "Go is being installed by another run; waiting..."):
        if command.is_file():
            return command
        arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        if arch not in GO_ZIP_SHA256:
            raise OfflineError(f"no Go toolchain is pinned for {arch}; install Go {GO_VERSION} and try again")
        say(f"installing Go {GO_VERSION} from its module (about 0.5 min)...")
        unpack_go(download_go(cache, arch, found), arch, home)
        say(f"installed Go {GO_VERSION}")
    return command


def go_version(go: str) -> tuple[int, ...]:
    """(major, minor) of a `go` command; (0, 0) when it does not answer."""
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={**os.environ, "GOTOOLCHAIN": "local"},
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.match(r"go(\d+)\.(\d+)", answer.strip())
    return (int(match[1]), int(match[2])) if match else (0, 0)


def download_go(cache: Path, arch: str, old_go: str | None) -> Path:
    """The zip of the Go toolchain: by an older `go` when there is one, else straight from the GOPROXY variable."""
    name = f"v0.0.1-go{GO_VERSION}.linux-{arch}"
    if old_go:
        run_logged(
            [old_go, "mod", "download", f"golang.org/toolchain@{name}"],
            str(scratch(cache)),
            go_environment(cache),
            cache / "logs" / "download-go.log",
            f"Go {GO_VERSION} did not download",
        )
        return cache / "go" / "mod" / "cache" / "download" / "golang.org" / "toolchain" / "@v" / f"{name}.zip"
    proxies = [part for part in re.split(r"[,|]", os.environ.get("GOPROXY", "")) if part.startswith("http")]
    if not proxies:
        raise OfflineError(
            "Go is not installed and GOPROXY is not set, so there is nowhere to get it from; "
            "install any Go (for example `apt-get install golang-go`) or set GOPROXY to your Go module mirror"
        )
    target = cache / "downloads" / f"{name}.zip"
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    try:
        source = f"{proxies[0].rstrip('/')}/golang.org/toolchain/@v/{name}.zip"
        with urllib.request.urlopen(source, timeout=120) as got, part.open("wb") as file:
            shutil.copyfileobj(got, file)
    except (OSError, urllib.error.URLError) as error:
        raise OfflineError(f"Go {GO_VERSION} did not download from GOPROXY: {error}") from error
    part.replace(target)
    return target


def unpack_go(archive: Path, arch: str, home: Path) -> None:
    """Unpack a toolchain zip as `home`, after its checksum; module zips carry no execute bits, so set them."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != GO_ZIP_SHA256[arch]:
        archive.unlink(missing_ok=True)
        raise OfflineError(
            f"the Go {GO_VERSION} toolchain has SHA-256 {digest}, expected {GO_ZIP_SHA256[arch]}; "
            "it was deleted, nothing was installed: check the module mirror"
        )
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="go-", dir=home.parent) as folder, zipfile.ZipFile(archive) as zipped:
        zipped.extractall(folder)
        root = Path(folder) / f"golang.org/toolchain@v0.0.1-go{GO_VERSION}.linux-{arch}"
        for program in [*(root / "bin").iterdir(), *(root / "pkg" / "tool").rglob("*")]:
            if program.is_file():
                program.chmod(0o755)
        root.replace(home)


def run_logged(command: list[str], cwd: str, env: Mapping[str, str], log: Path, failure: str) -> None:
    """Run a command with its output in `log`; when it fails raise OfflineError with the log's name and last lines."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        tail = "\n".join("  " + line for line in log.read_text(errors="replace").strip().splitlines()[-5:])
        raise OfflineError(f"{failure} (exit {done.returncode}); the compiler's output is in {log}:\n{tail}")


def scratch(cache: Path) -> Path:
    """The cache's folder for work in progress: on the same file system as the result, so a rename is atomic."""
    folder = cache / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def locked(path: Path, say: Say, waiting: str) -> Iterator[None]:
    """Hold an advisory lock on `path`, saying `waiting` once when somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
