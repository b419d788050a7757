"""The platforms that laws are checked on: configuration files, lock files, and a canary in place of every secret."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml

from stack.config.explain import parse_platform
from stack.config.model import Platform
from stack.parts import Parts, parse

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent.parent
PROJECT: Final = "private-llm"
STACK: Final = "dev"
CA_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----\nnot a real one\n-----END CERTIFICATE-----\n"
CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----\nanother that is none\n-----END CERTIFICATE-----\n"
OVERLAP: Final = "2026-12-31T00:00:00Z"


@dataclass(frozen=True)
class Sample:
    """One platform: its stack file, its lock, and the environment beyond the usual."""

    name: str
    stack_file: Path
    lock: Path
    environment: dict[str, str] = field(default_factory=dict)
    rotated: tuple[str, ...] = ()
    """Secrets that have another value than in other samples."""
    keyless: tuple[str, ...] = ()
    """Consumers that have no key yet."""
    rotating: tuple[str, ...] = ()
    """Consumers with a key from before, and a password of their own choice."""

    @cached_property
    def _platform(self) -> Any:
        return yaml.safe_load(self.stack_file.read_text())["config"]["private-llm:platform"]

    @cached_property
    def platform(self) -> Platform:
        """The configuration as the program reads it."""
        return parse_platform(self._platform, source=self.stack_file.name)

    @cached_property
    def parts(self) -> Parts:
        """The lock as the program reads it."""
        return parse(self.lock.read_text())

    @cached_property
    def canaries(self) -> dict[str, str]:
        """Secret's key -> its value: unmistakable wherever it turns up, the same in every run."""
        names = [
            "admin-password",
            "webui-secret-key",
            "ca-key",
            *(f"key-{c['name']}" for c in self._platform["consumers"] if c["name"] not in self.keyless),
            *(f"{kind}-{name}" for name in self.rotating for kind in ("previous-key", "basic")),
            *(["tls-key"] if self._platform.get("gateway", {}).get("tls") == {"mode": "certificate"} else []),
            *(f"engine-key-{u['name']}" for u in self._platform.get("upstreams", ()) if u.get("key")),
        ]
        return {name: _canary(f"{name} again" if name in self.rotated else name) for name in names}

    @property
    def config(self) -> dict[str, str]:
        """The stack's whole configuration, as Pulumi hands it to a program."""
        plain = {"platform": json.dumps(self._platform), "ca-certificate": CA_CERTIFICATE}
        plain |= {f"overlap-{name}": OVERLAP for name in self.rotating}
        if "tls-key" in self.canaries:
            plain["tls-certificate"] = CERTIFICATE
        return {f"{PROJECT}:{key}": value for key, value in (plain | self.canaries).items()}

    @property
    def secret_keys(self) -> list[str]:
        """Which keys are secret."""
        return [f"{PROJECT}:{key}" for key in self.canaries]

    def __str__(self) -> str:
        return self.name

    def variant(self, folder: Path, platform: dict[str, Any], **fields: Any) -> Sample:
        """The same with other settings (top keys of the platform are replaced) and other fields."""
        file = folder / f"Pulumi.{len(list(folder.iterdir()))}.yaml"
        file.write_text(yaml.safe_dump({"config": {"private-llm:platform": self._platform | platform}}))
        return replace(self, stack_file=file, **fields)


def _canary(name: str) -> str:
    return f"canary-{hashlib.sha256(name.encode()).hexdigest()[:24]}"


_OFFICIAL: Final = HERE / "official.lock.json"
_MIRROR: Final = HERE / "mirror.lock.json"

SAMPLES: Final = {
    sample.name: sample
    for sample in (
        Sample("dev", ROOT / "Pulumi.dev.yaml", _OFFICIAL),
        Sample("mirror", ROOT / "Pulumi.dev.yaml", _MIRROR),
        Sample("full", HERE / "full.yaml", _OFFICIAL),
        Sample("amd", HERE / "amd.yaml", _OFFICIAL),
        Sample("api-only", HERE / "api-only.yaml", _OFFICIAL),
        Sample("public", HERE / "public.yaml", _OFFICIAL, keyless=("newcomer",), rotating=("boss",)),
        Sample("acme", HERE / "acme.yaml", _OFFICIAL),
        Sample("own", HERE / "own.yaml", _OFFICIAL),
        Sample("elsewhere", HERE / "elsewhere.yaml", _OFFICIAL),
    )
}
