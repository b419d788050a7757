"""The Python packages: one virtual environment in the cache per lock file, `.venv` in the tree points to ours.

Standard library only; it runs on the system's Python, as `python3 -m ops.venv runtime|dev`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

from ops import paths

LOCKS = ("runtime", "dev")  # dev contains runtime, so an environment made for dev serves both
MINIMUM = (3, 11)


def environment(lock: str) -> Path:
    """Where the environment for this lock file and this Python lives."""
    text = (paths.ROOT / "requirements" / f"{lock}.lock").read_bytes()
    key = hashlib.sha256(text + sys.version.encode()).hexdigest()[:16]
    return paths.cache() / "venv" / f"{lock}-{key}"


def ready(folder: Path) -> bool:
    """True when the installation ran to its end (the mark is written last)."""
    return (folder / ".complete").exists()


def ensure(lock: str) -> Path:
    """Installs the locked packages once, checked by hash, and points `.venv` to them."""
    for name in LOCKS[LOCKS.index(lock) :][::-1]:
        if ready(environment(name)):
            return _point(environment(name))
    return _point(apart(lock))


def apart(lock: str) -> Path:
    """Installs the locked packages once, checked by hash, in an environment that `.venv` knows nothing of."""
    folder = environment(lock)
    if ready(folder):
        return folder
    print(f"python packages: installing requirements/{lock}.lock (about 1 min)...", flush=True)
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if made.returncode:
        sys.exit(
            f"python packages: {sys.executable} cannot make a virtual environment:\n{made.stdout}{made.stderr}\n"
            "fix: on Debian and Ubuntu `apt-get install python3-venv`, then run the same command again"
        )
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    locked = str(paths.ROOT / "requirements" / f"{lock}.lock")
    if subprocess.run([*pip, "--require-hashes", "-r", locked], check=False).returncode:
        sys.exit("python packages: installation failed (see above); nothing is half-done, run the same command again")
    (folder / ".complete").touch()
    print(f"python packages: ready in {time.monotonic() - started:.0f} s", flush=True)
    return folder


def _point(folder: Path) -> Path:
    link = paths.VENV
    if link.is_symlink() and link.readlink() == folder:
        return folder
    if link.exists() and not link.is_symlink():
        sys.exit(f"{link} is not the link that `make` keeps there; move it away and run the same command again")
    fresh = link.with_name(".venv.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder)
    fresh.replace(link)
    return folder


if __name__ == "__main__":
    if sys.version_info < MINIMUM:
        sys.exit(f"Python {MINIMUM[0]}.{MINIMUM[1]} or newer is needed; {sys.executable} is {sys.version.split()[0]}")
    ensure(sys.argv[1] if len(sys.argv) > 1 else "runtime")
