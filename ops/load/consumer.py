"""The consumer that a load test comes as: there while it runs, and with nothing else deployed beside it.

Its key and its end are in a copy of the stack's settings beside the state; Pulumi.<stack>.yaml is never written. So
whatever deploys that file takes the consumer away, also when the test was killed before it could.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ops import record, settings
from ops.docker import DockerError
from ops.errors import OpsError, of_system
from ops.files import write_atomic
from ops.load.stops import Stops
from ops.progress import Say
from ops.pulumi import PROJECT, Pulumi, PulumiError
from ops.request import stack_word
from stack.config.access import LOAD_CONSUMER
from stack.config.model import Platform

LIFE: Final = timedelta(hours=24)
SEED: Final = "::gateway-consumers-seed"
ENDS: Final = f"{PROJECT}:{LOAD_CONSUMER}-expires"
OURS: Final = (ENDS, settings.key_name(LOAD_CONSUMER))
PATIENCE: Final = 20.0  # seconds for the gateway to read its file of consumers
PAUSE: Final = 0.25
IN_FORCE: Final = "gateway_consumers "
# No image of the gateway has curl: its shell asks.
METRICS: Final = (
    "bash",
    "-c",
    "exec 3<>/dev/tcp/127.0.0.1/8081 && printf 'GET /metrics HTTP/1.0\\r\\nHost: gateway\\r\\n\\r\\n' >&3 && cat <&3",
)


def place(stack: str) -> Path:
    """The settings that a load test deploys. There between two commands only when one was killed."""
    return record.folder() / f"{stack}.load.yaml"


def refuse_name(platform: Platform, file: str) -> None:
    """Raises OpsError where somebody has the name already."""
    if any(one.name == LOAD_CONSUMER for one in platform.consumers):
        raise OpsError(
            f"{file}: a consumer is named {LOAD_CONSUMER}, which is what a load test comes as for as long as it runs\n"
            "fix: give that consumer another name, then `make key NAME=<the new name>` and `make up`"
        )


@dataclass(frozen=True)
class Deployed:
    """A stack as it is, and how the gateway's file of consumers is written: everything else is left alone."""

    pulumi: Pulumi
    seed: str
    """What writes that file."""
    text: str
    """The settings as they were at the beginning: what is edited during the test is not deployed by its end."""
    consumers: int

    @property
    def file(self) -> Path:
        """The settings that are deployed."""
        return place(self.pulumi.stack)

    def call(self, *args: str, text: str = "", secret: bool = False) -> str:
        """Pulumi on these settings; the terminal's Ctrl-C does not reach it."""
        return self.pulumi.call(*args, "--config-file", str(self.file), text=text, secret=secret, apart=True)

    def pending(self) -> list[str]:
        """Logical names of what an `up` would change."""
        try:
            steps = json.loads(self.call("preview", "--json"))["steps"]
        except PulumiError:
            again = stack_word(self.pulumi.stack)
            raise OpsError(
                f"{self.pulumi.file.name} cannot be deployed as it is\nfix: `make preview{again}` says what is wrong"
            ) from None
        return sorted({str(step["urn"]).rsplit("::", 1)[-1] for step in steps if step["op"] != "same"})

    def prepare(self, key: str, ends: str) -> None:
        """The settings with the consumer; nothing is deployed yet."""
        write_atomic(self.file, self.text)
        self.call("config", "set", ENDS, "--plaintext", text=ends)
        self.call("config", "set", settings.key_name(LOAD_CONSUMER), "--secret", text=key, secret=True)

    def put(self) -> None:
        """The consumer is there when the gateway knows it."""
        self._up(self.consumers + 1)

    def restore(self) -> None:
        """The consumer is gone when the gateway does not know it any more."""
        write_atomic(self.file, self.text)
        self._up(self.consumers)
        with contextlib.suppress(OSError):  # it has no key any more, and the next test or `up` takes it away
            self.file.unlink()

    def _up(self, wanted: int) -> None:
        quiet = ("--yes", "--skip-preview", "--suppress-outputs", "--suppress-permalink=true")
        self.call("up", *quiet, "--target", self.seed)
        until = time.monotonic() + PATIENCE
        while (found := in_force(self.pulumi)) != wanted:
            if time.monotonic() > until:
                raise OpsError(
                    f"the gateway knows {found} consumers and not {wanted}, {PATIENCE:g} s after their file changed\n"
                    "fix: see what it says (`make logs S=gateway`)"
                )
            time.sleep(PAUSE)


@contextlib.contextmanager
def present(pulumi: Pulumi, platform: Platform, deployment: Mapping[str, Any], stops: Stops, say: Say) -> Iterator[str]:
    """The consumer is there while the block runs; gives its key. Raises OpsError, having changed nothing, or undone it.

    Signals are held back by `stops`: they would leave the block in the middle of a step.
    """
    left = settings.read(place(pulumi.stack)) if place(pulumi.stack).exists() else None
    stack = Deployed(pulumi, _seed(pulumi, deployment), pulumi.file.read_text(), len(platform.consumers))
    say(f"stack {pulumi.stack}: is it what {pulumi.file.name} says? A load test changes nothing else...")
    try:
        in_force(pulumi)
        _refuse_pending(stack, left, say)
        stops.heed()
    except BaseException:
        if not left:
            forget(pulumi.stack)
        raise
    key, ends = settings.api_key(), datetime.now(UTC).replace(microsecond=0) + LIFE
    try:
        stack.prepare(key, ends.isoformat().replace("+00:00", "Z"))
    except BaseException:
        forget(pulumi.stack)
        raise
    try:
        stack.put()
        say(f"consumer {LOAD_CONSUMER}: there for this test, and for 24 hours at most")
        stops.heed()
        yield key
    finally:
        with contextlib.suppress(OSError):  # a terminal that was closed hears nothing, and must not be in the way
            say(f"consumer {LOAD_CONSUMER}: removing it (some seconds, which Ctrl-C does not cut short)...")
        try:
            stack.restore()
        except (OpsError, OSError) as trouble:
            why, first = str(trouble), ""
            if isinstance(trouble, OSError):
                why, first = of_system(trouble), "see to that; "
            raise OpsError(
                f"the consumer {LOAD_CONSUMER} could not be removed: {why}\n"
                f"its key, which nobody was shown, works until {ends:%Y-%m-%d %H:%M} UTC\n"
                f"fix: {first}`make up{stack_word(pulumi.stack)}` removes it"
            ) from trouble
        with contextlib.suppress(OSError):
            say(f"consumer {LOAD_CONSUMER}: gone, and its key with it")


def _seed(pulumi: Pulumi, deployment: Mapping[str, Any]) -> str:
    for resource in deployment.get("resources") or ():
        if str(resource.get("urn", "")).endswith(SEED):
            return str(resource["urn"])
    raise OpsError(f"stack {pulumi.stack} has no gateway yet\nfix: `make up{stack_word(pulumi.stack)}`")


def _refuse_pending(stack: Deployed, left: settings.Settings | None, say: Say) -> None:
    """Raises OpsError when the stack is not what its settings say: a load test deploys nothing but its consumer.

    `left`: what a test that was killed had deployed. When that is all that differs, it is taken back.
    """
    pulumi = stack.pulumi
    write_atomic(stack.file, stack.text)
    changed = stack.pending()
    if changed and left:
        tree = settings.read(stack.file).names
        kept = {name: value for name, value in left.config.items() if name in OURS and name not in tree}
        write_atomic(stack.file, settings.restore(stack.text, kept, None))
        if not stack.pending():
            say(f"consumer {LOAD_CONSUMER}: removing what a load test that was killed has left...")
            stack.restore()
            return
    if not changed:
        return
    again = stack_word(pulumi.stack)
    raise OpsError(
        f"stack {pulumi.stack} is not what {pulumi.file.name} says: {', '.join(changed)} would change\n"
        f"fix: `make up{again}` (`make preview{again}` shows what), then run this again; a load test deploys nothing "
        "but the consumer that it comes as"
    )


def in_force(pulumi: Pulumi) -> int:
    """How many consumers the gateway knows. Raises OpsError where it does not run."""
    try:
        text = pulumi.tools.docker.run(["exec", f"{PROJECT}-{pulumi.stack}-gateway", *METRICS])
    except DockerError as trouble:
        raise OpsError(
            f"the gateway of stack {pulumi.stack} does not run ({trouble})\nfix: `make up{stack_word(pulumi.stack)}`"
        ) from None
    return next((int(float(line.split()[1])) for line in text.splitlines() if line.startswith(IN_FORCE)), 0)


def forget(stack: str) -> bool:
    """After an `up`: whatever a test that was killed had left is gone. Says whether there was something."""
    there = place(stack).exists()
    place(stack).unlink(missing_ok=True)
    return there
