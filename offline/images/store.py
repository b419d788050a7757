"""The image store: a folder in the layout of the usual registry's file storage, written by rename only.

Made images and pushed models lie in it side by side; the mirror server serves it as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline.images.layers import EPOCH, Layer, write_layer
from offline.images.recipes import Recipe

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
GZIP_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CREATED = "2026-01-01T00:00:00Z"
LARGEST_MANIFEST = 100_000  # bytes


@dataclass(frozen=True)
class Store:
    """`folder` holds `docker/registry/v2`, as the registry's `rootdirectory` does."""

    folder: Path

    @property
    def root(self) -> Path:
        """The folder below which everything lies."""
        return self.folder / "docker" / "registry" / "v2"

    def blob(self, digest: str) -> Path:
        """Where the bytes of a digest lie (or would)."""
        sha = digest.removeprefix("sha256:")
        return self.root / "blobs" / "sha256" / sha[:2] / sha / "data"

    def has(self, digest: str) -> bool:
        """True when the bytes of a digest are here."""
        return self.blob(digest).is_file()

    def put(self, data: bytes) -> str:
        """Store some bytes; return their digest."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            replace_with(self.blob(digest), data)
        return digest

    def put_layer(self, tree: Path, recipe: Recipe, *, keep_owners: bool = False) -> Layer:
        """Pack `tree` and store it as a layer."""
        self.root.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.root, prefix=".layer-", delete=False) as file:
            try:
                layer = write_layer(tree, file, recipe.owners, keep_owners=keep_owners)
            except BaseException:
                Path(file.name).unlink()
                raise
        Path(file.name).chmod(0o644)
        target = self.blob(layer.digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(file.name).replace(target)
        return layer

    def tag(self, recipe: Recipe, layers: Sequence[Layer]) -> str:
        """Write the image's configuration and manifest, point its tag to it; return the manifest's digest."""
        config = self.put(canonical(image_config(recipe, layers)))
        manifest = canonical(image_manifest(config, self.blob(config).stat().st_size, layers))
        repository = self.root / "repositories" / recipe.reference.rsplit(":", 1)[0]
        for blob in (config, *(layer.digest for layer in layers)):
            replace_with(repository / "_layers" / "sha256" / blob[7:] / "link", blob.encode())
        return self.tag_manifest(recipe.reference, manifest)

    def tag_manifest(self, reference: str, data: bytes) -> str:
        """Store a manifest and point `repository:tag` to it; return its digest."""
        repository, tag = reference.rsplit(":", 1)
        folder, manifest = self.root / "repositories" / repository / "_manifests", self.put(data)
        replace_with(folder / "revisions" / "sha256" / manifest[7:] / "link", manifest.encode())
        replace_with(folder / "tags" / tag / "current" / "link", manifest.encode())
        return manifest

    def tagged(self, reference: str) -> str | None:
        """The digest that `repository:tag` points to, if any."""
        repository, tag = reference.rsplit(":", 1)
        link = self.root / "repositories" / repository / "_manifests" / "tags" / tag / "current" / "link"
        return link.read_text() if link.is_file() else None

    def complete(self, manifest: str) -> bool:
        """True when the manifest and all that it names are here."""
        if not self.has(manifest):
            return False
        content = json.loads(self.blob(manifest).read_bytes())
        return all(self.has(part["digest"]) for part in (content["config"], *content["layers"]))

    def files_of(self, reference: str) -> Iterator[Path]:
        """Every file that serving `repository:tag` needs, blobs first."""
        manifest = self.tagged(reference)
        if manifest is None:
            return
        content = json.loads(self.blob(manifest).read_bytes())
        for part in (content["config"], *content["layers"]):
            yield self.blob(part["digest"])
        yield self.blob(manifest)
        repository, tag = reference.rsplit(":", 1)
        folder = self.root / "repositories" / repository / "_manifests"
        yield folder / "revisions" / "sha256" / manifest[7:] / "link"
        yield folder / "tags" / tag / "current" / "link"

    def sweep(self, references: Sequence[str], digests: Collection[str]) -> None:
        """Remove the blobs that neither the images in `references` nor `digests` (layers, manifests) need."""
        needed = {path for reference in references for path in self.files_of(reference)}
        needed |= {self.blob(digest) for digest in digests}
        for digest in digests:
            needed.update(self.blob(part) for part in self.parts_of(digest))
        for blob in (self.root / "blobs" / "sha256").glob("*/*/data"):
            if blob not in needed:
                blob.unlink()
                blob.parent.rmdir()

    def parts_of(self, manifest: str) -> list[str]:
        """The digests that a manifest names; none when this is no manifest."""
        path = self.blob(manifest)
        if not path.is_file() or path.stat().st_size > LARGEST_MANIFEST:
            return []
        try:
            content = json.loads(path.read_bytes())
            return [part["digest"] for part in (content["config"], *content["layers"])]
        except (ValueError, KeyError, TypeError):
            return []


def image_config(recipe: Recipe, layers: Sequence[Layer]) -> dict[str, Any]:
    """The image's configuration object; nothing in it depends on when or where it was made."""
    run: dict[str, Any] = {
        "Env": [f"{key}={value}" for key, value in recipe.env.items()],
        "Cmd": list(recipe.cmd) or None,
        "Entrypoint": list(recipe.entrypoint) or None,
        "WorkingDir": recipe.workdir,
        "User": recipe.user,
        "ExposedPorts": {f"{port}/tcp": {} for port in recipe.ports},
        "Labels": {"private-llm.mirror": "1", "private-llm.stands-for": recipe.stands_for},
    }
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": CREATED, "created_by": f"private-llm {recipe.name}"} for _ in layers],
    }


def image_manifest(config: str, config_size: int, layers: Sequence[Layer]) -> dict[str, Any]:
    """A version 2 manifest over a stored configuration and stored layers."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": config_size, "digest": config},
        "layers": [{"mediaType": GZIP_LAYER, "size": layer.size, "digest": layer.digest} for layer in layers],
    }


def canonical(value: object) -> bytes:
    """JSON with one spelling."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def replace_with(path: Path, data: bytes) -> None:
    """Write a whole file or nothing, with a fixed time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
        file.write(data)
    Path(file.name).chmod(0o644)
    os.utime(file.name, (EPOCH, EPOCH))
    Path(file.name).replace(path)
