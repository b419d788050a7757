"""Debian parts: the base root file system, and single packages unpacked onto it without installing them anywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from offline.errors import OfflineError
from offline.gomod import run_logged
from offline.images.job import Job
from offline.images.layers import merge_usr

SUITE = "bookworm"
# What minbase leaves behind and no container reads: 130 MB of 220.
LITTER = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/lintian",
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
)
WORLD_WRITABLE = ("tmp", "var/tmp")


def base(job: Job) -> None:
    """Fill `job.root` with a minimal Debian 12; raises OfflineError without root rights or debootstrap."""
    if os.geteuid() != 0:
        raise OfflineError(
            "making the base image from Debian packages needs root (debootstrap): run `make up` once as root, "
            "or on a machine that reaches an image registry"
        )
    need("debootstrap", "debootstrap")
    mirror = debian_mirror()
    try:
        run_logged(
            ["debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(job.root), *mirror],
            str(job.work),
            os.environ,
            job.log,
            "debootstrap failed: Debian's packages did not install",
        )
    finally:
        unmount_below(job.root)
    keep_package_lists(job)
    for name in LITTER:
        shutil.rmtree(job.root / name, ignore_errors=True)
        (job.root / name).mkdir(parents=True)
    for name in WORLD_WRITABLE:
        (job.root / name).chmod(0o1777)
    (job.root / "etc" / "resolv.conf").unlink(missing_ok=True)
    (job.root / "etc" / "hostname").unlink(missing_ok=True)


def unmount_below(folder: Path) -> None:
    """Undo what debootstrap mounts inside its target and leaves there when it is interrupted."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((place for place in mounts if place.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)


def keep_package_lists(job: Job) -> None:
    """Put aside what apt needs to know of the base image: sources, keys, and which packages it has."""
    with tempfile.TemporaryDirectory(dir=job.work) as folder:
        kept = Path(folder) / "apt"
        for name in ("etc/apt", "var/lib/dpkg", "usr/share/keyrings"):
            shutil.copytree(job.root / name, kept / name, symlinks=True)
        (kept / "var/lib/apt/lists/partial").mkdir(parents=True)
        (kept / "var/cache/apt/archives/partial").mkdir(parents=True)
        shutil.rmtree(job.apt, ignore_errors=True)
        job.apt.parent.mkdir(parents=True, exist_ok=True)
        kept.replace(job.apt)


def unpack(job: Job, packages: Iterable[str], into: Path) -> None:
    """Download packages and what the base image lacks for them, unpack all into `into`; no script of theirs runs."""
    apt = ["apt-get", "-q", "-y", "-o", f"Dir={job.apt}", "-o", "APT::Sandbox::User=root", *apt_options(job.apt)]
    if not any((job.apt / "var/lib/apt/lists").glob("*Packages*")):
        run_logged([*apt, "update"], str(job.work), os.environ, job.log, "Debian's package lists did not download")
    debs = job.work / "debs"
    (debs / "partial").mkdir(parents=True)
    download = ["install", "--download-only", "--no-install-recommends", "-o", f"Dir::Cache::archives={debs}"]
    run_logged(
        [*apt, *download, *packages],
        str(job.work),
        os.environ,
        job.log,
        f"the packages {', '.join(packages)} did not download",
    )
    for package in sorted(debs.glob("*.deb")):
        run_logged(
            ["dpkg-deb", "-x", str(package), str(into)],
            str(job.work),
            os.environ,
            job.log,
            f"{package.name} did not unpack",
        )
    shutil.rmtree(debs)
    merge_usr(into)
    for name in LITTER[3:7]:
        shutil.rmtree(into / name, ignore_errors=True)


def apt_options(state: Path) -> list[str]:
    """Make apt look at the base image's state in `state` and not at this machine's."""
    settings = {
        "Dir::State::status": state / "var/lib/dpkg/status",
        "Dir::Etc::sourcelist": state / "etc/apt/sources.list",
        "Dir::Etc::sourceparts": state / "etc/apt/sources.list.d",
        "Dir::Etc::trustedparts": state / "etc/apt/trusted.gpg.d",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    return [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]


def debian_mirror() -> list[str]:
    """The mirror that this machine's apt uses for Debian, if it is a Debian; else none (debootstrap's own default)."""
    if chosen := os.environ.get("PRIVATE_LLM_DEBIAN_MIRROR"):
        return [chosen]
    try:
        release = Path("/etc/os-release").read_text()
    except OSError:
        return []
    if not re.search(r"^ID=debian$", release, re.MULTILINE):
        return []
    etc = Path("/etc/apt")
    for path in (etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))):
        if path.is_file() and (found := first_mirror(path.read_text(errors="replace"))):
            return [found]
    return []


def first_mirror(sources: str) -> str | None:
    """The first address in an apt sources file (either format) that serves the suite's main archive."""
    for line in sources.splitlines():
        if match := re.match(rf"deb\s+(?:\[[^]]*\]\s+)?(https?://\S+)\s+{SUITE}\s", line):
            return match[1]
    for stanza in re.split(r"\n\s*\n", sources):
        fields = dict(re.findall(r"^([A-Za-z-]+):\s*(.*)$", stanza, re.MULTILINE))
        if SUITE in fields.get("Suites", "").split() and "main" in fields.get("Components", "").split():
            address = fields.get("URIs", "").split()[:1]
            return address[0] if address and address[0].startswith("http") else None
    return None


def need(command: str, package: str) -> None:
    """Make sure that a Debian command is there, installing its package as root. Raises OfflineError."""
    if shutil.which(command):
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "apt.log"
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            run_logged(["apt-get", "update", "-q"], folder, environment, log, "apt-get update failed")
            run_logged(
                ["apt-get", "install", "-q", "-y", "--no-install-recommends", package],
                folder,
                environment,
                log,
                f"apt-get install {package} failed",
            )
        return
    raise OfflineError(f"`{command}` is needed to make images from packages: install it (`apt-get install {package}`)")
