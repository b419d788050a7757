"""A stack's settings: its Pulumi.<stack>.yaml, passphrase, generated secrets and certificate authority.

Pulumi keeps the salt and the encrypted secrets in Pulumi.<stack>.yaml. A copy lies beside the state, so that
`git checkout` of that file loses nothing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from ops import ca, passphrase, record, volumes
from ops.errors import OpsError
from ops.files import write_atomic
from ops.progress import Say
from ops.pulumi import PROJECT, Pulumi, cloud, foreign
from stack.config.access import CHAT_CONSUMER
from stack.config.explain import parse_platform
from stack.config.gateway import TlsMode
from stack.config.model import Platform

STACK_LABEL: Final = volumes.STACK_LABEL
SALT: Final = "encryptionsalt"
PLATFORM: Final = f"{PROJECT}:platform"
CA_KEY: Final = f"{PROJECT}:ca-key"
CA_CERTIFICATE: Final = f"{PROJECT}:ca-certificate"


@dataclass(frozen=True)
class Settings:
    """A Pulumi.<stack>.yaml as read."""

    salt: str | None
    config: Mapping[str, Any]

    @property
    def names(self) -> set[str]:
        """Keys that have a value."""
        return set(self.config)


def read(path: Path) -> Settings:
    """Reads a settings file. Raises OpsError when it is missing or not YAML."""
    if not path.exists():
        known = sorted(file.name.split(".")[1] for file in path.parent.glob("Pulumi.*.yaml"))
        raise OpsError(
            f"there is no {path.name}: a stack is configured in a file of its own\n"
            f"fix: use one that is there (STACK={', STACK='.join(known) or '…'}), "
            f"or copy Pulumi.dev.yaml to {path.name} without its encryptionsalt and secure values"
        )
    try:
        data = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as trouble:
        where = getattr(trouble, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise OpsError(f"{path.name}{line} is not YAML: {getattr(trouble, 'problem', trouble)}") from trouble
    if not isinstance(data, dict) or not isinstance(data.get("config") or {}, dict):
        raise OpsError(f"{path.name}: the file needs a mapping `config:` with `{PLATFORM}:` in it")
    return Settings(salt=data.get(SALT), config=data.get("config") or {})


def platform(path: Path) -> Platform:
    """The configuration, checked. Raises OpsError or ConfigError before anything is touched."""
    found = read(path).config.get(PLATFORM)
    if not isinstance(found, dict):
        raise OpsError(
            f"{path.name}: `{PLATFORM}` is missing under `config:`; docs/configuration.md has a complete example"
        )
    return parse_platform(found, source=path.name)


def copy(stack: str) -> Path:
    """The copy beside the state."""
    return record.folder() / f"{stack}.yaml"


def key_name(consumer: str) -> str:
    """Where a consumer's key is."""
    return f"{PROJECT}:key-{consumer}"


def previous_name(consumer: str) -> str:
    """Where the key before that is, during a rotation."""
    return f"{PROJECT}:previous-key-{consumer}"


def overlap_name(consumer: str) -> str:
    """Until when the previous key works (plain, RFC 3339)."""
    return f"{PROJECT}:overlap-{consumer}"


def basic_name(consumer: str) -> str:
    """Where the bcrypt hash of a chosen password is."""
    return f"{PROJECT}:basic-{consumer}"


def names_of(consumer: str) -> list[str]:
    """All that opens the gateway for a consumer."""
    return [name(consumer) for name in (key_name, previous_name, overlap_name, basic_name)]


def overlap_ends(config: Mapping[str, Any], consumer: str) -> datetime | None:
    """When a consumer's previous key stops working; None without a rotation."""
    text = config.get(overlap_name(consumer))
    return datetime.fromisoformat(str(text)) if text else None


def machine_consumers(configured: Platform) -> tuple[str, ...]:
    """Consumers that the platform itself is: their keys are made by `make up`, all others by `make key`."""
    own = {"default", CHAT_CONSUMER, *(service.name for service in configured.services if service.api)}
    return tuple(one.name for one in configured.consumers if one.name in own)


def forget(pulumi: Pulumi, names: Sequence[str]) -> None:
    """Removes keys for good: from the settings file and from its copy, which would put them back."""
    for name in names:
        if name in read(pulumi.file).names:
            pulumi.call("config", "rm", name)
    keep_copy(pulumi, gone=frozenset(names))


def keep_copy(pulumi: Pulumi, *, gone: frozenset[str] = frozenset()) -> None:
    """After a change that worked: what the tree has now is what belongs to the state.

    No generated key is dropped but those that are `gone` on purpose.
    """
    saved, text = copy(pulumi.stack), pulumi.file.read_text()
    if not saved.exists():
        write_atomic(saved, text)
        return
    old, tree = read(saved), read(pulumi.file)
    if old.salt == tree.salt:
        text = restore(text, {name: value for name, value in lost(old, tree).items() if name not in gone}, None)
    elif old.salt:
        # What the old salt seals cannot stand beside the new one.
        write_atomic(saved.with_name(f"{saved.name}.bak"), saved.read_bytes())
    if saved.read_text() != text:
        write_atomic(saved, text)


def generated(name: str) -> bool:
    """Whether a key of the settings file was made by us (and not written by hand)."""
    made = tuple(kind("") for kind in (key_name, previous_name, overlap_name, basic_name))
    return name in wanted(()) or name in {CA_KEY, CA_CERTIFICATE} or name.startswith(made)


def wanted(consumers: tuple[str, ...]) -> dict[str, Callable[[], str]]:
    """Secrets that every stack has, and how a new one is made."""
    return {
        f"{PROJECT}:admin-password": lambda: secrets.token_urlsafe(32),
        f"{PROJECT}:webui-secret-key": lambda: secrets.token_urlsafe(32),
        **{key_name(name): api_key for name in consumers},
    }


def api_key() -> str:
    """An API key as clients expect it: `sk-` and 256 bits."""
    return f"sk-{secrets.token_urlsafe(32)}"


class Blocks(yaml.SafeDumper):
    """Writes texts of several lines as blocks, as Pulumi does."""


Blocks.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def restore(tree: str, lost: Mapping[str, Any], salt: str | None) -> str:
    """The tree's file with secrets and salt (unless it has one) put back, its comments kept."""
    if not lost and not salt:
        return tree
    lines = tree.splitlines()
    start = next((number for number, line in enumerate(lines) if re.fullmatch(r"config:\s*(#.*)?", line)), None)
    if start is None:
        data = yaml.safe_load(tree) or {}
        data["config"] = {**(data.get("config") or {}), **lost}
        return yaml.safe_dump({**({SALT: salt} if salt else {}), **data}, sort_keys=False)
    inner = next(
        (line for line in lines[start + 1 :] if re.match(r"\s+\S", line) and not line.lstrip().startswith("#")), "  x"
    )
    indent = inner[: len(inner) - len(inner.lstrip())]
    block = [indent + line for line in yaml.dump(dict(lost), Dumper=Blocks, width=10_000).splitlines()] if lost else []
    sealed = [f"{SALT}: {salt}"] if salt else []
    return "\n".join([*lines[: start + 1], *block, *lines[start + 1 :], *sealed]) + "\n"


def lost(old: Settings, tree: Settings) -> dict[str, Any]:
    """Generated keys of the copy that the tree has no more."""
    return {name: value for name, value in old.config.items() if generated(name) and name not in tree.config}


def restore_lost(pulumi: Pulumi, configured: Platform, say: Say) -> None:
    """Puts back what the tree's file has lost and the copy beside the state has.

    Raises OpsError where it cannot: the tree has another salt, which does not open the copy's secrets.
    """
    saved = copy(pulumi.stack)
    if not saved.exists():
        return
    old, tree = read(saved), read(pulumi.file)
    if not old.salt:
        return
    gone = lost(old, tree)
    if renewal(pulumi.stack).exists():
        gone = {name: value for name, value in gone.items() if name not in {CA_KEY, CA_CERTIFICATE}}
    if tree.salt:
        # A consumer that is configured no more needs no key.
        opening = (name for consumer in configured.consumers for name in names_of(consumer.name))
        needed = {*wanted(()), *opening, CA_KEY, CA_CERTIFICATE}
        gone = {name: value for name, value in gone.items() if name in needed}
        if not gone:
            return
    if tree.salt and tree.salt != old.salt:
        names = ", ".join(name.removeprefix(f"{PROJECT}:") for name in gone)
        raise OpsError(
            f"{pulumi.file.name} has another {SALT} than the copy beside the state ({saved}), and has lost {names}; "
            "new ones are not made, since the platform uses the old ones\n"
            f"fix: remove the {SALT} line and every `secure:` value from {pulumi.file.name} and run this again: "
            "the old ones are put back from the copy. "
            f"To go on with new ones instead, move {saved} away"
        )
    mode = pulumi.file.stat().st_mode & 0o777
    write_atomic(pulumi.file, restore(pulumi.file.read_text(), gone, None if tree.salt else old.salt), mode)
    what = f"{len(gone)} secrets" if tree.salt else f"its salt and {len(gone)} secrets"
    say(f"settings: {pulumi.file.name} had lost {what}; put back from {saved}")


def ensure_passphrase(pulumi: Pulumi, say: Say, *, renew: bool = False) -> None:
    """The stack's passphrase: checked when there, made when nothing needs an old one. Raises OpsError.

    `renew` lets volumes alone not stand in the way (`make adopt` with everything else lost).
    """
    path = passphrase.file(pulumi.stack)
    if pulumi.env.get("PULUMI_CONFIG_PASSPHRASE_FILE") != str(path) or cloud(foreign(pulumi.env)):
        return  # the person's own
    salt = read(pulumi.file).salt
    if path.exists():
        passphrase.check(path, salt, pulumi.file)
        return
    needs = []
    if pulumi.keeps_files and pulumi.checkpoint.exists():
        needs.append(f"state: {pulumi.checkpoint}")
    if salt:
        needs.append(f"encrypted secrets: {SALT} in {pulumi.file}")
    if copy(pulumi.stack).exists():
        needs.append(f"encrypted secrets: {copy(pulumi.stack)}")
    if not renew:
        needs += [f"data volume: {name}" for name in volumes.with_data(volumes.there(pulumi))]
    if needs:
        raise passphrase.refuse_new(pulumi.stack, needs, pulumi.file)
    say(f"passphrase: new, in {passphrase.generate(pulumi.stack)} (keep a copy elsewhere: it opens the secrets)")


def ensure(pulumi: Pulumi, configured: Platform, say: Say, *, renew: bool = False) -> None:
    """Stack, passphrase, secrets and authority: made at the first run, checked later. Raises OpsError."""
    restore_lost(pulumi, configured, say)
    ensure_passphrase(pulumi, say, renew=renew)
    if not (pulumi.keeps_files and pulumi.checkpoint.exists()):
        init(pulumi, say)
    end_overlaps(pulumi, configured, say)
    have = read(pulumi.file).names
    makers = wanted(machine_consumers(configured))
    missing = [name for name in makers if name not in have]
    if missing:
        short = ", ".join(name.removeprefix(f"{PROJECT}:") for name in missing)
        say(f"secrets: generating {short} (kept encrypted in {pulumi.file.name})...")
    for name in missing:
        put(pulumi, name, makers[name](), secret=True)
    ensure_ca(pulumi, configured, have, say)
    keep_copy(pulumi)
    if lacking := configured.lacking(lambda key: f"{PROJECT}:{key}" in have):
        raise OpsError("\n".join(lacking))


def end_overlaps(pulumi: Pulumi, configured: Platform, say: Say) -> None:
    """Removes previous keys whose time is over: the gateway refuses them already."""
    config, now = read(pulumi.file).config, datetime.now(UTC)
    for consumer in configured.consumers:
        ends = overlap_ends(config, consumer.name)
        if ends and ends <= now:
            forget(pulumi, [previous_name(consumer.name), overlap_name(consumer.name)])
            say(f"keys: the previous one of {consumer.name} is over and removed")


def init(pulumi: Pulumi, say: Say) -> None:
    """Makes the stack in its backend, unless it is there."""
    from ops.pulumi import PulumiError

    try:
        pulumi.call("stack", "init")
    except PulumiError as trouble:
        if "already exists" not in str(trouble):
            raise
    else:
        say(f"stack {pulumi.stack}: made in {pulumi.env.get('PULUMI_BACKEND_URL', 'Pulumi Cloud')}")


def put(pulumi: Pulumi, name: str, value: str, *, secret: bool) -> None:
    """Sets one key; the value goes through standard input, never into the list of processes."""
    pulumi.call("config", "set", name, "--secret" if secret else "--plaintext", text=value, secret=secret)


def ensure_ca(pulumi: Pulumi, configured: Platform, have: set[str], say: Say) -> None:
    """The authority, made once; refused when it cannot vouch for a configured name or address."""
    hostnames = vouched(configured)
    if {CA_KEY, CA_CERTIFICATE} <= have and not renewal(pulumi.stack).exists():
        certificate = str(read(pulumi.file).config[CA_CERTIFICATE])
        if outside := ca.uncovered(certificate, hostnames):
            raise OpsError(
                f"{pulumi.file.name}: gateway has the names {', '.join(outside)}, which this stack's certificate "
                "authority may not vouch for (it was made for other names)\n"
                f"fix: `make ca-renew STACK={pulumi.stack}` makes a new one, which clients then have to trust"
            )
        return
    renew_ca(pulumi, configured, say)


def vouched(configured: Platform) -> tuple[str, ...]:
    """What the stack's own authority vouches for, beside this machine's own names."""
    gateway = configured.gateway
    if gateway.tls.mode is not TlsMode.INTERNAL:
        return ()
    return gateway.names if ca.within(gateway.address) else (*gateway.names, gateway.address)


def renewal(stack: str) -> Path:
    """There while key and certificate are being written: a run that ended between them left a pair that is none."""
    return record.folder() / f"{stack}.ca-renewal"


def renew_ca(pulumi: Pulumi, configured: Platform, say: Say) -> None:
    """Makes a new authority for the names configured now. Interrupted, the next run makes it again."""
    hostnames = vouched(configured)
    key, certificate = ca.create(f"{PROJECT} {pulumi.stack} root CA", hostnames, configured.gateway.address)
    write_atomic(renewal(pulumi.stack), "")
    put(pulumi, CA_KEY, key, secret=True)
    put(pulumi, CA_CERTIFICATE, certificate, secret=False)
    keep_copy(pulumi)
    renewal(pulumi.stack).unlink(missing_ok=True)
    say(
        f"certificate authority: for {', '.join([*hostnames, 'this machine'])} until {ca.expires(certificate):%Y-%m-%d}"
    )


def certificate_file(pulumi: Pulumi) -> Path:
    """The certificates that clients trust the gateway by: our authority's, or this system's where others vouch."""
    return record.folder() / f"{pulumi.stack}.ca.pem"


def bundle_file(pulumi: Pulumi) -> Path:
    """This system's authorities and ours, for programs that take one file."""
    return record.folder() / f"{pulumi.stack}.bundle.pem"


def write_certificates(pulumi: Pulumi) -> None:
    """Writes both files from the settings. Raises OpsError before the first `up`."""
    import ssl

    certificate = read(pulumi.file).config.get(CA_CERTIFICATE)
    if not certificate:
        raise OpsError(
            f"stack {pulumi.stack} has no certificate authority yet\nfix: run `make up STACK={pulumi.stack}` first"
        )
    system = ssl.get_default_verify_paths().cafile
    ours = f"{str(certificate).strip()}\n"
    theirs = Path(system).read_text() if system and Path(system).exists() else ""
    both = f"{theirs.rstrip()}\n{ours}".lstrip()
    own = platform(pulumi.file).gateway.tls.mode is TlsMode.INTERNAL
    for path, text in ((certificate_file(pulumi), ours if own else both), (bundle_file(pulumi), both)):
        if not path.exists() or path.read_text() != text:
            write_atomic(path, text, 0o644)
