"""The image that builds the gateway without a network: Go, the gateway's modules, and all of them compiled."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from offline.gomod import ensure_go, go_environment, run_logged
from offline.images.job import Job

# The same as in images/gateway/Dockerfile: Go finds a compiled package only under the same flags.
GATEWAY_FLAGS = "-trimpath -buildvcs=false"
GOROOT_PARTS = ("bin", "lib", "pkg/include", "pkg/tool", "src", "VERSION", "go.env")
GOROOT_LEFT_OUT = ("testdata", "*_test.go", "cmd")


def fill(job: Job) -> None:
    """Go, the gateway's modules, and the compiled packages of all of them: `docker build` needs no network."""
    gateway = job.source / "images" / "gateway"
    go = ensure_go(job.cache, job.say)
    copy_go(job, go)
    modules, compiled = job.root / "go" / "pkg" / "mod", job.root / "root" / ".cache" / "go-build"
    environment = go_environment(job.cache) | {
        "GOMODCACHE": str(modules),
        "GOCACHE": str(compiled),
        "GOFLAGS": f"{GATEWAY_FLAGS} -modcacherw",
        "GOPROXY": cached_first(job.cache, go_proxy(go, job)),
    }
    probe = job.work / "probe"
    probe.mkdir()
    shutil.copy(gateway / "go.mod", probe)
    shutil.copy(gateway / "go.sum", probe)
    packages = third_party(path.read_text() for path in gateway_sources(gateway))
    imports = "".join(f'\t_ "{package}"\n' for package in packages)
    (probe / "main.go").write_text(f"package main\n\nimport (\n{imports})\n\nfunc main() {{}}\n")
    run_logged(
        [str(go), "build", "-mod=mod", "-o", str(job.work / "probe.out"), "."],
        str(probe),
        environment,
        job.log,
        "the gateway's Go modules did not build",
    )
    listing = job.log.with_suffix(".list.log")
    run_logged(
        [str(go), "list", "-mod=mod", "-deps", "-f", NEEDED_FORMAT, "."],
        str(probe),
        environment,
        listing,
        "the gateway's Go packages were not listed",
    )
    prune(modules, needed_paths(listing.read_text()))
    shutil.rmtree(modules / "cache" / "download" / "sumdb", ignore_errors=True)
    for archive in (modules / "cache" / "download").rglob("*.zip"):
        archive.unlink()
    for name in ("trim.txt", "testexpire.txt"):
        (compiled / name).unlink(missing_ok=True)
    (job.root / "go" / "bin").mkdir()
    (job.root / "root").chmod(0o755)


# One line per package from a module: its folder, then the files that it embeds.
NEEDED_FORMAT = "{{if .Module}}{{.Dir}}{{range .EmbedFiles}}\t{{.}}{{end}}{{end}}"


def needed_paths(listing: str) -> tuple[frozenset[Path], frozenset[Path]]:
    """The folders and the embedded files in what `go list` printed."""
    lines = [line.split("\t") for line in listing.splitlines() if line.startswith("/")]
    folders = frozenset(Path(line[0]) for line in lines)
    return folders, frozenset(Path(line[0]) / name for line in lines for name in line[1:])


def prune(modules: Path, needed: tuple[frozenset[Path], frozenset[Path]]) -> None:
    """Remove the files of packages that nothing imports (one module alone brings 400 MB); every folder stays.

    Go asks the proxy for a module whose folder is missing, and there is none.
    """
    folders, embedded = needed
    for place in modules.iterdir():
        if place.name == "cache":
            continue
        for path in list(place.rglob("*")):
            kept = path.parent in folders and not path.name.endswith("_test.go")
            if path.is_file() and not kept and path not in embedded and path.name != "go.mod":
                path.unlink()


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
        package
        for package in found
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
            shutil.copytree(source, target / name, symlinks=True, ignore=shutil.ignore_patterns(*GOROOT_LEFT_OUT))
        elif source.is_file():
            shutil.copy(source, target / name)


def go_proxy(go: Path, job: Job) -> str:
    """What `go` would download from."""
    return output([str(go), "env", "GOPROXY"], job, os.environ)


def cached_first(cache: Path, proxy: str) -> str:
    """Take modules from our own module cache before asking anybody."""
    return f"file://{cache}/go/mod/cache/download,{proxy}"


def output(command: list[str], job: Job, environment: Mapping[str, str]) -> str:
    """The first line that a short command prints."""
    run_logged(command, str(job.work), environment, job.log, f"`{' '.join(command)}` failed")
    return job.log.read_text().strip()
