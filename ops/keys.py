"""Keys of consumers: made, shown once, rotated with an overlap, revoked; chosen passwords as bcrypt hashes.

Everything is a secret of the stack's settings file. The next `make up` puts a change into force.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ops import paths, repair, settings, show
from ops.errors import OpsError
from ops.look import opened
from ops.progress import Say, say
from ops.pulumi import Pulumi
from ops.request import Request, stack_word
from stack.config.access import Consumer
from stack.config.model import Platform
from stack.config.units import seconds

OWN: Final = "default"  # this machine's own consumer: `make ask` and `make env` use its key
SOON: Final = timedelta(days=14)
COST: Final = 10  # bcrypt: 60 ms of CPU a try; 14 would be a second, which is an attack on ourselves
SHORTEST, LONGEST = 12, 72  # bytes of a chosen password; bcrypt reads 72


def key(request: Request) -> int:
    """Makes a consumer's key and prints it this once; rotates or revokes it. `default`'s is shown whenever asked."""
    if request.rotate and request.revoke:
        raise OpsError("ROTATE=1 REVOKE=1: one of them, please; a rotation with OVERLAP=0s ends the old key at once")
    pulumi = opened(request)
    platform = settings.platform(pulumi.file)
    if request.revoke:
        return revoke(pulumi, platform, request.name, say)
    consumer(platform, request.name, pulumi)
    if request.name == OWN and not request.rotate:
        print(pulumi.call("config", "get", settings.key_name(OWN)).rstrip("\n"))
        return 0
    with repair.alone(pulumi, say):
        settings.restore_lost(pulumi, platform, say)
        known = settings.key_name(request.name) in settings.read(pulumi.file).names
        if known and not request.rotate:
            raise OpsError(
                f"consumer {request.name} has a key; it was shown when it was made\n"
                f"fix: `{again(request, 'ROTATE=1')}` makes a new one (the old one works for another "
                f"{request.overlap}: OVERLAP=…), `{again(request, 'REVOKE=1')}` takes it away"
            )
        new = settings.api_key()
        if known:
            refuse_third(pulumi, request)
            rotate(pulumi, request.name, request.overlap)
        settings.put(pulumi, settings.key_name(request.name), new, secret=True)
        settings.keep_copy(pulumi)
    ends = f"; the old one works for another {request.overlap}" if known and seconds(request.overlap) else ""
    say(f"key of {request.name}, shown this once; `{up(pulumi)}` puts it into force{ends}")
    print(new)
    return 0


def refuse_third(pulumi: Pulumi, request: Request) -> None:
    """Two keys at a time are kept: a rotation within a rotation would end one that is in use. Raises OpsError."""
    config = settings.read(pulumi.file).config
    ends = settings.overlap_ends(config, request.name)
    if (
        settings.previous_name(request.name) in config
        and ends
        and ends > datetime.now(UTC)
        and seconds(request.overlap)
    ):
        raise OpsError(
            f"consumer {request.name} is being rotated: it has a new key, and the one before until "
            f"{ends:%Y-%m-%d %H:%M} UTC; a third would end one of them\n"
            f"fix: wait until then, or `{again(request, 'ROTATE=1 OVERLAP=0s')}` to end both with the next "
            f"`{up(pulumi)}`"
        )


def rotate(pulumi: Pulumi, name: str, overlap: str) -> None:
    """Keeps the present key as the previous one until the overlap is over. Interrupted, both names hold the old key."""
    if not seconds(overlap):
        settings.forget(pulumi, [settings.previous_name(name), settings.overlap_name(name)])
        return
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds(overlap))
    old = pulumi.call("config", "get", settings.key_name(name)).rstrip("\n")
    settings.put(pulumi, settings.overlap_name(name), ends.isoformat().replace("+00:00", "Z"), secret=False)
    settings.put(pulumi, settings.previous_name(name), old, secret=True)


def revoke(pulumi: Pulumi, platform: Platform, name: str, say: Say) -> int:
    """Takes every key and password of a consumer away; it may be configured no more."""
    if name in settings.machine_consumers(platform):
        raise OpsError(
            f"consumer {name} cannot do without a key: the platform itself uses it\n"
            f"fix: `make key NAME={name} ROTATE=1 OVERLAP=0s STACK={pulumi.stack}` replaces it"
        )
    with repair.alone(pulumi, say):
        there = [one for one in settings.names_of(name) if one in settings.read(pulumi.file).names]
        if not there:
            raise OpsError(f"consumer {name} has no key\nfix: `make keys STACK={pulumi.stack}` lists who has one")
        settings.forget(pulumi, there)
    say(f"keys of {name}: revoked; `{up(pulumi)}` puts it into force within seconds")
    return 0


def basic(request: Request) -> int:
    """Lets a consumer sign in with a password of its own choice (Basic); `REMOVE=1` takes it away."""
    if not request.named:
        raise OpsError("whose password? say NAME=<consumer>")
    pulumi = opened(request)
    platform = settings.platform(pulumi.file)
    name = settings.basic_name(request.name)
    if request.remove:
        with repair.alone(pulumi, say):
            if name not in settings.read(pulumi.file).names:
                raise OpsError(f"consumer {request.name} has no password")
            settings.forget(pulumi, [name])
    else:
        consumer(platform, request.name, pulumi)
        hashed = hash_password(read_password(request.name))
        with repair.alone(pulumi, say):
            settings.restore_lost(pulumi, platform, say)
            settings.put(pulumi, name, hashed, secret=True)
            settings.keep_copy(pulumi)
    say(f"password of {request.name}: {'removed' if request.remove else 'set'}; `{up(pulumi)}` puts it into force")
    return 0


def read_password(name: str) -> str:
    """Asks twice on a terminal, else reads a line: a password never stands among a process's words."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    chosen = getpass.getpass(f"password for {name}: ")
    if getpass.getpass("once more: ") != chosen:
        raise OpsError("the two passwords differ; nothing was changed")
    return chosen


def hash_password(password: str) -> str:
    """Its bcrypt hash. Raises OpsError for one that is too short or longer than bcrypt reads."""
    import bcrypt

    raw = password.encode()
    if not SHORTEST <= len(raw) <= LONGEST:
        raise OpsError(f"a password has {SHORTEST} to {LONGEST} bytes; this one has {len(raw)}; nothing was changed")
    return bcrypt.hashpw(raw, bcrypt.gensalt(COST)).decode()


def consumer(platform: Platform, name: str, pulumi: Pulumi) -> Consumer:
    """The configured consumer. Raises OpsError with what to write when there is none of this name."""
    for one in platform.consumers:
        if one.name == name:
            return one
    there = ", ".join(one.name for one in platform.consumers)
    raise OpsError(
        f"there is no consumer named {name}; there are: {there}\n"
        f"fix: add it under consumers in {pulumi.file.name}, then run this again:\n"
        f"      - name: {name}\n        scopes: [chat]"
    )


def keys(request: Request) -> int:
    """Who has a key, for what, until when; never a key. Needs no running platform."""
    file = paths.ROOT / f"Pulumi.{request.stack}.yaml"
    platform, config = settings.platform(file), settings.read(file).config
    now = datetime.now(UTC)
    rows = [row(one, config, now) for one in platform.consumers]
    print(show.table([("CONSUMER", "KEY", "PASSWORD", "SCOPES", "MODELS", "LIMITS", "EXPIRES"), *rows], ""))
    for line in notes(platform.consumers, config, now):
        say(line)
    return 0


def row(one: Consumer, config: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    """One consumer's line."""
    has = "yes" if settings.key_name(one.name) in config else "no"
    ends = settings.overlap_ends(config, one.name)
    if settings.previous_name(one.name) in config and ends and ends > now:
        has += f", the old one until {ends:%Y-%m-%d %H:%M} UTC"
    limits = {
        "/min": one.requests_per_minute,
        " streams": one.concurrent_streams,
        " tokens/min": one.tokens_per_minute,
        " tokens/day": one.tokens_per_day,
    }
    return (
        one.name,
        has,
        "yes" if settings.basic_name(one.name) in config else "no",
        " ".join(one.scopes),
        " ".join(one.models),
        ", ".join(f"{value}{unit}" for unit, value in limits.items() if value) or "usual",
        f"{one.expires:%Y-%m-%d}" if one.expires else "never",
    )


def notes(consumers: Sequence[Consumer], config: Mapping[str, Any], now: datetime) -> list[str]:
    """What to look at: keys that end soon, have ended, or belong to nobody."""
    said = []
    for one in consumers:
        if one.expires and one.expires <= now:
            said.append(f"{one.name}: expired on {one.expires:%Y-%m-%d}")
        elif one.expires and one.expires <= now + SOON:
            said.append(f"{one.name}: expires on {one.expires:%Y-%m-%d}")
    known = {one.name for one in consumers}
    prefix = settings.key_name("")
    said += [
        f"{name}: has a key and is not configured; `make key NAME={name} REVOKE=1` removes it"
        for name in sorted(one.removeprefix(prefix) for one in config if one.startswith(prefix))
        if name not in known
    ]
    return said


def up(pulumi: Pulumi) -> str:
    """The command that puts a change into force."""
    return f"make up{stack_word(pulumi.stack)}"


def again(request: Request, word: str) -> str:
    """The same command with one more word."""
    return f"make key NAME={request.name} {word}{stack_word(request.stack)}"
