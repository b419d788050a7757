"""Parts made from Python packages: the interpreter, ChromaDB's server, Open WebUI.

Packages come from hashed lock files beside this module and are put in place by uv, itself locked by hash.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

from offline.errors import OfflineError
from offline.gomod import Say, locked, run_logged
from offline.images import debian
from offline.images.job import Job

HERE = Path(__file__).resolve().parent
UV_LOCK = HERE.parent.parent / "requirements" / "offline.lock"
TARGET = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
# Only for people who read or debug: 100 MB of Open WebUI's 250.
NOT_SERVED = ("*.map",)


def interpreter(job: Job) -> None:
    """Debian's Python 3.11, with the names that official Python images have."""
    debian.unpack(job, ("python3", "libpython3.11-stdlib"), job.root)
    (job.root / "usr" / "bin" / "python").symlink_to("python3")


def chroma(job: Job) -> None:
    """`chroma`: the wheel's own server (Rust) behind its own command line."""
    site = job.root / "usr" / "lib" / "chroma"
    install(job, HERE / "chroma.lock", site)
    # The package's `__init__` imports its client and all that needs; the server is one call into the Rust library.
    program = job.root / "usr" / "bin" / "chroma"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(CHROMA_COMMAND)
    program.chmod(0o755)
    (job.root / "config.yaml").write_text('persist_path: "/data"\n')
    (job.root / "data").mkdir()


CHROMA_COMMAND = """\
#!/usr/bin/python3
import sys

sys.path.insert(0, "/usr/lib/chroma")
import chromadb_rust_bindings

chromadb_rust_bindings.cli(["chroma", *sys.argv[1:]])
"""


def open_webui(job: Job) -> None:
    """`/app` as in the official image, from the Python package, plus curl and jq for the health check."""
    debian.unpack(job, ("curl", "jq"), job.root)
    site, backend = job.root / "app" / "site", job.root / "app" / "backend"
    install(job, HERE / "open-webui.lock", site)
    backend.mkdir(parents=True)
    (site / "open_webui").replace(backend / "open_webui")
    (backend / "open_webui" / "frontend").replace(job.root / "app" / "build")
    shutil.copy(backend / "open_webui" / "CHANGELOG.md", job.root / "app" / "CHANGELOG.md")
    version = next(site.glob("open_webui-*.dist-info")).name.split("-")[1].removesuffix(".dist")
    (job.root / "app" / "package.json").write_text(f'{{"name": "open-webui", "version": "{version}"}}\n')
    for pattern in NOT_SERVED:
        for path in (job.root / "app" / "build").rglob(pattern):
            path.unlink()
    (backend / "data").mkdir()
    shutil.copy(HERE / "open-webui-start.sh", backend / "start.sh")
    (backend / "start.sh").chmod(0o755)
    commands = job.root / "usr" / "local" / "bin"
    commands.mkdir(parents=True)
    (commands / "uvicorn").write_text('#!/bin/sh\nexec /usr/bin/python3 -m uvicorn "$@"\n')
    (commands / "uvicorn").chmod(0o755)
    precompile(job, site, backend / "open_webui")


def install(job: Job, lock: Path, target: Path) -> None:
    """Put a lock file's packages into `target` for the image's Python, checked by hash."""
    uv = ensure_uv(job.cache, job.say, job.log)
    target.parent.mkdir(parents=True, exist_ok=True)
    run_logged(
        [
            str(uv),
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            *TARGET,
            "--target",
            str(target),
            "--link-mode",
            "copy",
            "-r",
            str(lock),
        ],
        str(job.work),
        {**os.environ, "UV_CACHE_DIR": str(job.cache / "uv")},
        job.log,
        f"the Python packages of {lock.name} did not install",
    )
    for name in ("bin", ".lock"):
        path = target / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def precompile(job: Job, *folders: Path) -> None:
    """Byte code for a root file system that cannot be written: without it every start compiles 15,000 files again.

    Not tied to the time of the source, which a layer sets to a constant. Left out where this is not Python 3.11.
    """
    if sys.version_info[:2] != (3, 11):
        job.say("  this is not Python 3.11: the image starts slower, without byte code")
        return
    for folder in folders:
        _compile(job, folder)


def _compile(job: Job, folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "compileall",
        "-q",
        "-j",
        "0",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        str(job.root),
        "-p",
        "/",
        str(folder),
    ]
    # Some packages carry templates that are no Python; compileall then ends with 1, having compiled the rest.
    run_logged(["sh", "-c", '"$@" || true', "sh", *command], str(job.work), os.environ, job.log, "no byte code")


def ensure_uv(cache: Path, say: Say, log: Path) -> Path:
    """The locked uv, installed into the cache on first use; returns its program. Raises OfflineError."""
    home = cache / "tools" / f"uv-{hashlib.sha256(UV_LOCK.read_bytes()).hexdigest()[:12]}"
    program = home / "bin" / "uv"
    if program.is_file():
        return program
    with locked(cache / "tools" / ".uv.lock", say, "uv is being installed by another run; waiting..."):
        if program.is_file():
            return program
        fresh = home.with_name(home.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        run_logged(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--require-hashes",
                "--target",
                str(fresh),
                "-r",
                str(UV_LOCK),
            ],
            str(cache),
            os.environ,
            log,
            "uv did not install",
        )
        if not (fresh / "bin" / "uv").is_file():
            raise OfflineError(f"the uv package of {UV_LOCK} has no bin/uv: {fresh}")
        fresh.replace(home)
    return program
