"""Image digests from a registry's HTTP API, so that a tag is looked up once and then pinned."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import requests

from ops.errors import OpsError
from ops.files import read_json, write_json
from ops.progress import Say
from stack.versions import IMAGES

MANIFESTS: Final = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
LIMIT: Final = (5, 20)  # seconds to connect, to answer


def split(reference: str) -> tuple[str, str, str]:
    """(registry, repository, tag) of `registry/repository:tag`. Raises OpsError when a part is missing."""
    found = re.fullmatch(r"([^/]+)/([^:@]+):([^:@]+)", reference)
    if not found:
        raise OpsError(f"{reference} in stack/versions.py is not registry/repository:tag")
    return found[1], found[2], found[3]


def base_url(registry: str) -> str:
    """Docker Hub's API has another name than its images; a registry on this machine speaks plain HTTP."""
    if registry == "docker.io":
        return "https://registry-1.docker.io"
    loopback = registry.startswith(("127.0.0.1", "localhost"))
    return f"{'http' if loopback else 'https'}://{registry}"


def challenge(header: str) -> tuple[str, dict[str, str]]:
    """(address, parameters) of a token request from `WWW-Authenticate: Bearer realm="…",service="…"`."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', header))
    return fields.pop("realm", ""), fields


def digest(reference: str) -> str:
    """`registry/repository:tag@sha256:…` as the registry has it now. Raises OpsError."""
    registry, repository, tag = split(reference)
    url = f"{base_url(registry)}/v2/{repository}/manifests/{tag}"
    try:
        answer = requests.head(url, headers={"Accept": MANIFESTS}, timeout=LIMIT, allow_redirects=True)
        if answer.status_code == requests.codes.unauthorized:
            realm, fields = challenge(answer.headers.get("WWW-Authenticate", ""))
            token = requests.get(realm, params=fields, timeout=LIMIT).json()
            bearer = f"Bearer {token.get('token') or token.get('access_token')}"
            answer = requests.head(
                url, headers={"Accept": MANIFESTS, "Authorization": bearer}, timeout=LIMIT, allow_redirects=True
            )
        answer.raise_for_status()
    except (requests.RequestException, ValueError) as trouble:
        raise OpsError(
            f"the registry does not give the digest of {reference}: {trouble}\n"
            "fix: see whether the image is still there and this machine may reach the registry, then try again"
        ) from trouble
    found = answer.headers.get("Docker-Content-Digest", "")
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", found):
        raise OpsError(f"the registry gives no digest for {reference} but {found!r}")
    return f"{reference}@{found}"


def pinned(lock: Path) -> dict[str, str]:
    """The images that a lock pins at the very version of stack/versions.py."""
    data = read_json(lock)
    images = data.get("images", {}) if isinstance(data, dict) else {}
    return {
        name: str(images[name])
        for name, reference in IMAGES.items()
        if str(images.get(name, "")).startswith(f"{reference}@sha256:")
    }


def complete(lock: Path, names: Iterable[str]) -> bool:
    """True when a lock pins all these images at their versions of now."""
    return set(names) <= pinned(lock).keys()


def resolve(
    lock: Path,
    say: Say,
    names: Iterable[str],
    optional: Iterable[str] = (),
    look_up: Callable[[str], str] = digest,
    mode: int = 0o600,
    *,
    again: bool = False,
) -> None:
    """Looks up what a lock does not pin yet (all of it `again`), and writes it.

    Raises OpsError, leaving the old lock as it was.
    An optional image that cannot be had is said and left out: the platform does without it.
    """
    have = {} if again else pinned(lock)
    strict = [name for name in names if name not in have]
    wanted = strict + [name for name in optional if name not in have and name not in strict]
    say(f"images: looking up {len(wanted)} digests...")

    def one(name: str) -> str | None:
        try:
            return look_up(IMAGES[name])
        except OpsError as trouble:
            if name in strict:
                raise
            say(f"images: going on without {name}: {str(trouble).splitlines()[0]}")
            return None

    with ThreadPoolExecutor(max_workers=6) as pool:
        found = {name: image for name, image in zip(wanted, pool.map(one, wanted), strict=True) if image}
    images = {name: image for name in IMAGES if (image := found.get(name) or have.get(name))}
    write_json(lock, {"source": "official", "images": images, "models": {}}, mode)
