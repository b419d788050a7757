"""Parts made from Go modules: Ollama itself, and the image that builds the gateway without a network."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from offline.errors import OfflineError
from offline.gomod import GoProgram, build_command, ensure_go, go_environment, go_mod_text, run_logged
from offline.images import debian
from offline.images.job import Job

OLLAMA_VERSION = "0.17.4"
OLLAMA = GoProgram(
    binary="ollama",
    title="Ollama",
    module="github.com/ollama/ollama",
    package="github.com/ollama/ollama",
    version=f"v{OLLAMA_VERSION}",
    stamps={
        "github.com/ollama/ollama/version.Version": OLLAMA_VERSION,
        "github.com/ollama/ollama/server.mode": "release",
    },
    minutes=5,
    cgo=True,
)
# A module's zip has no `vendor` folders, so three headers of Ollama's are missing; these are where they come from.
MINIAUDIO = ("github.com/gen2brain/malgo", "v0.11.24")
HEADER_PACKAGES = ("nlohmann-json3-dev", "libstb-dev")
# `native` would pull in AMX symbols that do not link, and tie the image to this machine.
OPTIMIZE = "-O3 -march=x86-64-v3"

# The same as in images/gateway/Dockerfile: Go finds a compiled package only under the same flags.
GATEWAY_FLAGS = "-trimpath -buildvcs=false"
GOROOT_PARTS = ("bin", "lib", "pkg/include", "pkg/tool", "src", "VERSION", "go.env")


def ollama(job: Job) -> None:
    """`/usr/bin/ollama`, CPU only."""
    if platform.machine() != "x86_64":
        raise OfflineError(f"the package-mirror build of Ollama is for x86_64, this machine is {platform.machine()}")
    for command in ("gcc", "g++"):
        debian.need(command, command)
    go = ensure_go(job.cache, job.say)
    headers = ollama_headers(job, go)
    flags = f"{OPTIMIZE} -I{headers}"
    environment = go_environment(job.cache, cgo=True) | {"CGO_CFLAGS": OPTIMIZE, "CGO_CXXFLAGS": flags}
    wrapper = job.work / "wrapper"
    wrapper.mkdir()
    (wrapper / "go.mod").write_text(go_mod_text(OLLAMA))
    target = job.root / "usr" / "bin" / "ollama"
    target.parent.mkdir(parents=True)
    command = build_command(go, OLLAMA, target)
    command.insert(2, "-trimpath")
    run_logged(command, str(wrapper), environment, job.log, f"Ollama {OLLAMA.version} did not build")
    target.chmod(0o755)
    (job.root / "root" / ".ollama").mkdir(parents=True)
    (job.root / "root").chmod(0o755)


def ollama_headers(job: Job, go: Path) -> Path:
    """A folder with the headers that Ollama's module zip lacks.

    It lies at a fixed place: its path is part of the compiler's flags, hence of the key of each compiled package.
    """
    folder = job.cache / "images" / "include" / f"ollama-{OLLAMA_VERSION}"
    if folder.is_dir():
        return folder
    fresh = job.work / "include"
    debian.unpack(job, HEADER_PACKAGES, job.work / "headers")
    shutil.copytree(job.work / "headers" / "usr" / "include", fresh)
    module, version = MINIAUDIO
    (job.work / "go.mod").write_text("module private-llm.invalid/headers\n")
    run_logged(
        [str(go), "mod", "download", f"{module}@{version}"], str(job.work), go_environment(job.cache),
        job.log, f"{module} {version} did not download",
    )
    (fresh / "miniaudio").mkdir()
    shutil.copy(job.cache / "go" / "mod" / f"{module}@{version}" / "miniaudio.h", fresh / "miniaudio")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh.replace(folder)
    return folder


def gateway_builder(job: Job) -> None:
    """Go, the gateway's modules, and the compiled packages of all of them: `docker build` needs no network."""
    gateway = job.source / "images" / "gateway"
    go = ensure_go(job.cache, job.say)
    copy_go(job, go)
    modules, compiled = job.root / "go" / "pkg" / "mod", job.root / "root" / ".cache" / "go-build"
    environment = go_environment(job.cache) | {
        "GOMODCACHE": str(modules), "GOCACHE": str(compiled), "GOFLAGS": f"{GATEWAY_FLAGS} -modcacherw",
        "GOPROXY": cached_first(job.cache, go_proxy(go, job)),
        "GONOSUMDB": "*", "GOFLAGS_EXTRA": "",
    }
    probe = job.work / "probe"
    probe.mkdir()
    shutil.copy(gateway / "go.mod", probe)
    shutil.copy(gateway / "go.sum", probe)
    packages = third_party(path.read_text() for path in gateway_sources(gateway))
    imports = "".join(f'\t_ "{package}"\n' for package in packages)
    (probe / "main.go").write_text(f"package main\n\nimport (\n{imports})\n\nfunc main() {{}}\n")
    run_logged(
        [str(go), "build", "-mod=mod", "-o", str(job.work / "probe.out"), "."], str(probe), environment, job.log,
        "the gateway's Go modules did not build",
    )
    shutil.rmtree(modules / "cache" / "download" / "sumdb", ignore_errors=True)
    for archive in (modules / "cache" / "download").rglob("*.zip"):
        archive.unlink()
    for name in ("trim.txt", "testexpire.txt"):
        (compiled / name).unlink(missing_ok=True)
    (job.root / "go" / "bin").mkdir()
    (job.root / "root").chmod(0o755)


def gateway_sources(gateway: Path) -> list[Path]:
    """The gateway's Go files that end up in the binary."""
    return sorted(path for path in gateway.rglob("*.go") if not path.name.endswith("_test.go"))


def third_party(sources: Iterable[str]) -> list[str]:
    """The packages of other modules that Go sources import; standard packages have no dot in their first part."""
    found: set[str] = set()
    for source in sources:
        for block in re.findall(r"^import\s*\((.*?)\)|^import\s+(.*)$", source, re.MULTILINE | re.DOTALL):
            found.update(re.findall(r'"([^"]+)"', block[0] or block[1].split("\n")[0]))
    return sorted(
        package for package in found
        if "." in package.split("/")[0] and "/internal" not in package and not package.startswith("private-llm")
    )


def copy_go(job: Job, go: Path) -> None:
    """The Go toolchain as /usr/local/go, without its tests and documentation."""
    asked = {"GOTOOLCHAIN": "local", **os.environ}
    home = Path(output([str(go), "env", "GOROOT"], job, asked))
    target = job.root / "usr" / "local" / "go"
    for name in GOROOT_PARTS:
        source = home / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target / name, symlinks=True, ignore=shutil.ignore_patterns("testdata", "*_test.go"))
        elif source.is_file():
            shutil.copy(source, target / name)


def go_proxy(go: Path, job: Job) -> str:
    """What `go` would download from."""
    return output([str(go), "env", "GOPROXY"], job, os.environ)


def cached_first(cache: Path, proxy: str) -> str:
    """Take modules from our own module cache before asking anybody."""
    return f"file://{cache}/go/mod/cache/download,{proxy}"


def output(command: list[str], job: Job, environment: object) -> str:
    """The first line that a short command prints."""
    run_logged(command, str(job.work), dict(environment), job.log, f"`{' '.join(command)}` failed")  # type: ignore[call-overload]
    return job.log.read_text().strip()
