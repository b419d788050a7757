"""Put the stand-in plugins into Pulumi's plugin cache, each folder complete: it keeps working if the checkout moves."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from offline.gomod import Say, locked, scratch

SOURCES = Path(__file__).parent
MARK = ".private-llm-stand-in"


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One plugin: its official name and version, the module that runs it, the modules it needs, its programs."""

    name: str
    version: str
    runs: str
    modules: tuple[str, ...]
    programs: Mapping[str, Path] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name of its folder in the plugin cache."""
        return f"resource-{self.name}-v{self.version}"


def ensure_installed(plugin: Plugin, plugins: Path, python: Path, cache: Path, say: Say) -> None:
    """Install `plugin` under `plugins` unless it is there, unchanged; an official one in its place is left alone."""
    target = plugins / plugin.folder
    wanted = fingerprint(plugin, python)
    mark = target / MARK
    if target.is_dir() and (not mark.is_file() or mark.read_text() == wanted):
        return
    plugins.mkdir(parents=True, exist_ok=True)
    waiting = f"the {plugin.name} plugin is being installed; waiting..."
    with (
        locked(plugins / f".{plugin.folder}.lock", say, waiting),
        tempfile.TemporaryDirectory(prefix="plugin-", dir=scratch(cache)) as work,
    ):
        made = Path(work) / "new"
        write(plugin, made, python)
        (made / MARK).write_text(wanted)
        if target.exists():
            target.replace(Path(work) / "old")
        made.replace(target)
    say(f"installed the {plugin.name} {plugin.version} plugin's stand-in")


def write(plugin: Plugin, folder: Path, python: Path) -> None:
    """Write the whole plugin folder: launcher, sources, programs (as hard links where the file system allows)."""
    package = folder / "lib" / "offline" / "plugins"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    for module in ("__init__", plugin.runs, *plugin.modules):
        shutil.copyfile(SOURCES / f"{module}.py", package / f"{module}.py")
    (folder / "lib" / "run.py").write_text(
        f'import runpy\n\nrunpy.run_module("offline.plugins.{plugin.runs}", run_name="__main__")\n'
    )
    for name, path in plugin.programs.items():
        try:
            os.link(path, folder / name)
        except OSError:
            shutil.copy2(path, folder / name)
    launcher = folder / f"pulumi-resource-{plugin.name}"
    launcher.write_text(launcher_text(plugin, python))
    launcher.chmod(0o755)


def launcher_text(plugin: Plugin, python: Path) -> str:
    """The executable that Pulumi starts; the environment's PYTHON* variables are for the program, not for us."""
    return (
        "#!/bin/sh\n"
        f"# Stand-in for the official {plugin.name} plugin {plugin.version}, which no package registry offers.\n"
        f"python='{python}'\n"
        'if [ ! -x "$python" ]; then\n'
        f'  echo "the {plugin.name} plugin needs $python, which is gone; run \\`make up\\` again" >&2\n'
        "  exit 1\n"
        "fi\n"
        'exec "$python" -E -s "$(dirname "$0")/lib/run.py" "$@"\n'
    )


def fingerprint(plugin: Plugin, python: Path) -> str:
    """Changes when the sources, the programs or the Python behind an installed plugin change."""
    digest = hashlib.sha256(launcher_text(plugin, python).encode())
    for module in sorted(("__init__", plugin.runs, *plugin.modules)):
        digest.update((SOURCES / f"{module}.py").read_bytes())
    for name, path in sorted(plugin.programs.items()):
        found = path.stat()
        digest.update(f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def lasting(python: Path | None) -> Path:
    """An interpreter's path that stays valid when a checkout goes; the running one's by default.

    Links to its virtual environment are followed; the last one is kept, because it makes it that environment's.
    """
    chosen = python or Path(sys.executable)
    return chosen.parent.resolve() / chosen.name
