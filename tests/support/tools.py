"""Programs that tests run. One that is missing is a skip that names it on a laptop, and a failure in CI."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

import pytest

from offline.errors import OfflineError
from offline.gomod import ensure_go, go_environment
from ops import paths

GATEWAY: Final = paths.ROOT / "images" / "gateway"
ENGINE: Final = paths.ROOT / "tests" / "support" / "engine"


def missing(program: str, how: str) -> NoReturn:
    """Skips the test, or fails it where everything has to be there."""
    text = f"{program} is missing: {how}"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def program(name: str, how: str) -> Path:
    """Path of an installed program; `how` says where it comes from."""
    found = shutil.which(name)
    return Path(found) if found else missing(name, how)


@cache
def promtool() -> Path:
    """Prometheus' checker: installed, or out of Debian's package, which is unpacked and not installed (no service)."""
    kept = paths.cache() / "tools" / "promtool-debian" / "promtool"
    if not shutil.which("promtool") and (kept.exists() or _out_of_debian("prometheus", "usr/bin/promtool", kept)):
        return kept
    return program("promtool", "install Prometheus (Debian: apt-get install prometheus)")


@cache
def fail2ban_regex() -> list[str]:
    """The command that tries a filter of fail2ban: installed, or out of Debian's package, which is unpacked."""
    folder = paths.cache() / "tools" / "fail2ban-debian"
    if shutil.which("fail2ban-regex"):
        return [str(program("fail2ban-regex", ""))]
    if folder.exists() or _out_of_debian("fail2ban", ".", folder):
        packages = folder / "usr" / "lib" / "python3" / "dist-packages"
        words = ["env", f"PYTHONPATH={packages}", "/usr/bin/python3", str(folder / "usr" / "bin" / "fail2ban-regex")]
        return [*words, "--config", str(folder / "etc" / "fail2ban")]
    return [str(program("fail2ban-regex", "install fail2ban (Debian: apt-get install fail2ban)"))]


@cache
def chromium() -> tuple[Path, Path]:
    """A browser, and `certutil`, which tells it whom to trust. As root on Debian they are installed when missing."""
    names = {"chromium": "chromium", "certutil": "libnss3-tools"}
    absent = [package for name, package in names.items() if not shutil.which(name)]
    if absent and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *absent]):
            subprocess.run(["apt-get", "-qq", *words], capture_output=True, timeout=600, check=False, env=environment)
    found = [program(name, f"install it (Debian: apt-get install {package})") for name, package in names.items()]
    return found[0], found[1]


def _out_of_debian(package: str, file: str, kept: Path) -> bool:
    """Puts one file of a Debian package into the cache; False where there is no such package."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return False
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as name:
        folder = Path(name)
        folder.chmod(0o755)  # apt downloads as a user of its own
        for fetch in (["download"], ["update"], ["download"]):
            words = ["apt-get", "-qq", *fetch, *([package] if fetch == ["download"] else [])]
            subprocess.run(words, cwd=folder, capture_output=True, timeout=300, check=False)
            if found := list(folder.glob("*.deb")):
                subprocess.run(["dpkg-deb", "-x", found[0], folder / "out"], check=True, timeout=120)
                (folder / "out" / file).replace(kept)
                return True
    return False


@cache
def caddy() -> Path:
    """Our own Caddy, built from images/gateway."""
    return _go_program("gateway", GATEWAY, "caddy")


@cache
def engine() -> Path:
    """The one fake engine, and the client that loads it (tests/support/engine/README.md)."""
    return _go_program("engine", ENGINE, "engine")


def _go_program(name: str, folder: Path, binary: str) -> Path:
    """A program of ours in Go, built into the cache and kept there by the hash of its sources."""
    sources = [path for path in folder.rglob("*") if path.suffix in {".go", ".mod", ".sum"}]
    digest = hashlib.sha256()
    for source in sorted(path for path in sources if not path.name.endswith("_test.go")):
        digest.update(f"\0{source.relative_to(folder)}\0".encode() + source.read_bytes())
    built = paths.cache() / "tools" / f"{name}-{digest.hexdigest()[:12]}" / binary
    if built.exists():
        return built
    try:
        go = ensure_go(paths.cache(), lambda _progress: None)
    except OfflineError as error:
        missing("Go", str(error))
    built.parent.mkdir(parents=True, exist_ok=True)
    fresh = built.with_name(f"{binary}.{os.getpid()}.new")
    try:
        done = subprocess.run(
            # Flags that the compiler sees would make it compile all of Caddy again, after `make gateway-test` has.
            [go, "build", "-buildvcs=false", "-ldflags=-s -w", "-o", fresh, "."],
            cwd=folder,
            env=go_environment(paths.cache()),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{folder.relative_to(paths.ROOT)} does not build:\n{done.stderr[-3000:]}"
        fresh.replace(built)
    finally:
        fresh.unlink(missing_ok=True)
    return built
