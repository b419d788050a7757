"""Layers: a folder as a deterministic, gzipped tar, the same bytes for the same files."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

EPOCH = 1_767_225_600  # 2026-01-01; one fixed time for every file, so that a rebuilt layer has the same digest
LINKED_BY_DEBIAN = ("bin", "sbin", "lib", "lib32", "lib64")


@dataclass(frozen=True)
class Layer:
    """A stored layer: digest of the compressed bytes, digest of the tar inside, compressed size in bytes."""

    digest: str
    diff_id: str
    size: int


class _Writer(Protocol):
    def write(self, data: bytes, /) -> object: ...


class _Hashing:
    """A file to write to that keeps the SHA-256 and the length of what went through."""

    def __init__(self, inner: _Writer) -> None:
        self.inner, self.sha, self.size = inner, hashlib.sha256(), 0

    def write(self, data: bytes, /) -> int:
        self.sha.update(data)
        self.size += len(data)
        self.inner.write(data)
        return len(data)

    def flush(self) -> None:
        """Asked for by gzip; the inner file is flushed when it is closed."""

    @property
    def digest(self) -> str:
        return "sha256:" + self.sha.hexdigest()


def write_layer(root: Path, out: IO[bytes], owners: Mapping[str, int] | None, *, keep_owners: bool = False) -> Layer:
    """Write everything below `root` as one gzipped tar into `out`.

    All belongs to root, except the trees named in `owners` (path -> uid and gid), or as on disk with `keep_owners`.
    Sockets and device nodes are left out. Raises OSError.
    """
    outer = _Hashing(out)
    # Level 1: a daemon next door unpacks it at once, and level 6 takes five times as long.
    with gzip.GzipFile(filename="", fileobj=outer, mode="wb", compresslevel=1, mtime=0) as packed:
        inner = _Hashing(packed)
        with tarfile.open(fileobj=inner, mode="w|", format=tarfile.GNU_FORMAT) as archive:  # type: ignore[call-overload]
            for path in walk(root):
                add(archive, root, path, owners or {}, keep_owners=keep_owners)
    return Layer(outer.digest, inner.digest, outer.size)


def walk(root: Path) -> Iterator[Path]:
    """Every path below `root`, parents first, in an order that does not depend on the file system."""
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        path = Path(entry.path)
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from walk(path)


def add(archive: tarfile.TarFile, root: Path, path: Path, owners: Mapping[str, int], *, keep_owners: bool) -> None:
    """Add one path; hard links become files of their own."""
    status, name = path.lstat(), str(path.relative_to(root))
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = stat.S_IMODE(status.st_mode), EPOCH
    info.uid = info.gid = owner_of(name, owners)
    if keep_owners:
        info.uid, info.gid = status.st_uid, status.st_gid
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    elif stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
        archive.addfile(info)
    elif stat.S_ISREG(status.st_mode):
        info.size = status.st_size
        with path.open("rb") as file:
            archive.addfile(info, file)


def owner_of(name: str, owners: Mapping[str, int]) -> int:
    """The uid (and gid) of a path: that of the nearest folder named in `owners`, else root."""
    parts = name.split("/")
    for end in range(len(parts), 0, -1):
        if "/".join(parts[:end]) in owners:
            return owners["/".join(parts[:end])]
    return 0


def merge_usr(root: Path) -> None:
    """Move /bin, /sbin and /lib* of an unpacked package below /usr, where the base image's links point.

    A real folder of that name in a layer would hide the link, and with it the C library.
    """
    for name in LINKED_BY_DEBIAN:
        if (root / name).is_dir() and not (root / name).is_symlink():
            move_tree(root / name, root / "usr" / name)


def move_tree(source: Path, target: Path) -> None:
    """Move all below `source` into `target`, merging folders."""
    target.mkdir(parents=True, exist_ok=True)
    for path in list(source.iterdir()):
        if path.is_dir() and not path.is_symlink():
            move_tree(path, target / path.name)
        else:
            path.replace(target / path.name)
    source.rmdir()


def extract(layer: Path, name: str, target: Path) -> Path:
    """One file out of a stored layer, executable; raises KeyError when it is not in it."""
    with tarfile.open(layer, "r|gz") as archive:
        for member in archive:
            if member.name == name:
                content = archive.extractfile(member)
                assert content is not None  # noqa: S101 - a regular file
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)
                target.chmod(0o755)
                return target
    raise KeyError(f"{name} is not in {layer}")
