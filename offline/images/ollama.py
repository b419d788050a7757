"""Ollama itself, from its Go module: CPU only, compiled on this machine."""

from __future__ import annotations

import platform
import shutil
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


def fill(job: Job) -> None:
    """`/usr/bin/ollama`, CPU only."""
    if platform.machine() != "x86_64":
        raise OfflineError(f"the package-mirror build of Ollama is for x86_64, this machine is {platform.machine()}")
    for compiler in ("gcc", "g++"):
        debian.need(compiler, compiler)
    go = ensure_go(job.cache, job.say)
    headers = headers_folder(job, go)
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


def headers_folder(job: Job, go: Path) -> Path:
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
        [str(go), "mod", "download", f"{module}@{version}"],
        str(job.work),
        go_environment(job.cache),
        job.log,
        f"{module} {version} did not download",
    )
    (fresh / "miniaudio").mkdir()
    shutil.copy(job.cache / "go" / "mod" / f"{module}@{version}" / "miniaudio.h", fresh / "miniaudio")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh.replace(folder)
    return folder
