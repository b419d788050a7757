"""The sole reader of Pulumi's configuration and of the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pulumi

from stack import parts
from stack.config.access import CHAT_CONSUMER, LOAD_CONSUMER, Credentials, load_consumer
from stack.config.explain import ConfigError, parse_platform
from stack.config.gateway import TlsMode
from stack.config.model import Platform

ROOT: Final = Path(__file__).resolve().parent.parent.parent
OFFICIAL_LOCK: Final = ROOT / "locks" / "official.json"


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """Everything that must never be read: Outputs from here to their sinks."""

    admin_password: pulumi.Output[str]
    webui_secret_key: pulumi.Output[str]
    ca_key: pulumi.Output[str]
    tls_key: pulumi.Output[str] | None
    """Of the certificate that was given."""
    keys: dict[str, pulumi.Output[str]]
    """Of the consumers that have one."""
    credentials: dict[str, pulumi.Output[Credentials]]
    """Of every consumer."""
    engine_keys: dict[str, pulumi.Output[str]]
    """Of the engines elsewhere that want one."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One stack: what was asked for, with what parts, and its secrets."""

    project: str
    stack: str
    platform: Platform
    parts: parts.Parts
    ca_certificate: str
    tls_certificate: str | None
    """The one that was given, with its chain."""
    secrets: Secrets
    adopt: frozenset[str]
    """Names of volumes that are there though the state does not know them."""

    @property
    def prefix(self) -> str:
        """What physical names start with."""
        return f"{self.project}-{self.stack}"


def load() -> Environment:
    """Reads this stack's configuration. Raises RunError (no traceback) before any resource is registered."""
    config = pulumi.Config()
    project, stack = pulumi.get_project(), pulumi.get_stack()
    try:
        platform = parse_platform(config.require_object("platform"), source=f"Pulumi.{stack}.yaml")
    except ConfigError as error:
        raise pulumi.RunError(str(error)) from None
    lock = parts.parse(Path(os.environ.get("PRIVATE_LLM_LOCK") or OFFICIAL_LOCK).read_text())
    try:
        lock.require(parts.needed(platform))
    except parts.MissingPart as error:
        raise pulumi.RunError(str(error)) from None
    platform = _with_load(config, platform)
    keys = {consumer.name: config.get_secret(f"key-{consumer.name}") for consumer in platform.consumers}
    for name in keys.keys() & {"default", CHAT_CONSUMER, *(one.name for one in platform.services if one.api)}:
        keys[name] = config.require_secret(f"key-{name}")
    if problems := [*platform.lacking(lambda key: config.get_secret(key) is not None), *_unbuildable(platform)]:
        raise pulumi.RunError("\n".join(problems))
    given = platform.gateway.tls.mode is TlsMode.CERTIFICATE
    return Environment(
        project=project,
        stack=stack,
        platform=platform,
        parts=lock,
        ca_certificate=config.require("ca-certificate"),
        tls_certificate=config.require("tls-certificate") if given else None,
        secrets=Secrets(
            admin_password=config.require_secret("admin-password"),
            webui_secret_key=config.require_secret("webui-secret-key"),
            ca_key=config.require_secret("ca-key"),
            tls_key=config.require_secret("tls-key") if given else None,
            keys={name: key for name, key in keys.items() if key is not None},
            engine_keys={name: config.require_secret(key) for name, key in platform.engine_keys.items()},
            credentials={consumer.name: _credentials(config, consumer.name) for consumer in platform.consumers},
        ),
        adopt=frozenset(filter(None, os.environ.get("PRIVATE_LLM_ADOPT", "").split(","))),
    )


def _with_load(config: pulumi.Config, platform: Platform) -> Platform:
    """The platform with the consumer of a load test that runs; without an end it would not be let in."""
    ends = config.get(f"{LOAD_CONSUMER}-expires")
    if not ends:
        return platform
    if any(one.name == LOAD_CONSUMER for one in platform.consumers):
        raise pulumi.RunError(f"a load test runs as consumer `{LOAD_CONSUMER}`, and there is one of that name already")
    return platform.model_copy(update={"consumers": (*platform.consumers, load_consumer(ends))})


def _unbuildable(platform: Platform) -> Iterator[str]:
    """Services that cannot be built."""
    for service in platform.services:
        if service.build and not (ROOT / service.build / "Dockerfile").is_file():
            yield f"service `{service.name}` is built from {service.build}, but there is no {service.build}/Dockerfile"


def _credentials(config: pulumi.Config, name: str) -> pulumi.Output[Credentials]:
    return pulumi.Output.all(
        key=config.get_secret(f"key-{name}"),
        previous=config.get_secret(f"previous-key-{name}"),
        previous_until=config.get(f"overlap-{name}"),
        password_bcrypt=config.get_secret(f"basic-{name}"),
    ).apply(lambda known: Credentials(**known))
