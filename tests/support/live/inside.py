"""What services see of each other: questions from a one-shot container on one of the platform's networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ops.docker import Result
from ops.settings import STACK_LABEL
from tests.support.live.platform import Platform

# The images have no curl: the shell asks. `timeout` bounds names that do not resolve and packets that are dropped.
_END: Final = "--- end of an answer ---"
_GET: Final = f"""
for path in "${{@:2}}"; do
  exec 3<>"/dev/tcp/$0/$1" || exit 1
  printf 'GET %s HTTP/1.0\\r\\nHost: %s\\r\\n\\r\\n' "$path" "$0" >&3
  cat <&3
  echo "{_END}"
done
"""
_CONNECT: Final = """
while [ $# -gt 0 ]; do
  timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1" && echo "$0:$1"' "$1" "$2" 2>/dev/null &
  shift 2
done
wait
echo tried
"""


def run(platform: Platform, network: str, command: Sequence[str]) -> Result:
    """Runs a command in a fresh container of the base image on a network (by its full name)."""
    label = f"{STACK_LABEL}={platform.stack}"
    hardening = ["--cap-drop=ALL", "--user=10001:10001", "--read-only", "--label", label]
    return platform.docker.attempt(
        ["run", "--rm", "--network", network, *hardening, platform.image("base"), *command], limit=60
    )


def get(platform: Platform, network: str, host: str, port: int, *paths: str) -> list[str]:
    """The bodies of plain HTTP answers from inside a network of the stack. Raises AssertionError unless all are 200."""
    done = run(platform, platform.name(network), ["timeout", "30", "bash", "-c", _GET, host, str(port), *paths])
    answers = done.out.replace("\r\n", "\n").split(f"{_END}\n")[:-1]
    assert done.code == 0, f"GET {host}:{port} {paths} from {network}: {done.err.strip()}"
    assert len(answers) == len(paths), done.out
    heads, bodies = zip(*((head, body) for head, _, body in (one.partition("\n\n") for one in answers)), strict=True)
    assert all(" 200" in head.splitlines()[0] for head in heads), f"GET {host}:{port} {paths} from {network}: {heads}"
    return list(bodies)


Target = tuple[str, int]


def connects(platform: Platform, network: str, targets: Iterable[Target]) -> set[Target]:
    """To which of the addresses a TCP connection comes about from inside a network (by its full name)."""
    wanted = list(targets)
    return _which(wanted, run(platform, network, _attempts(wanted)).out)


def connects_from(platform: Platform, service: str, targets: Iterable[Target]) -> set[Target]:
    """To which of the addresses a TCP connection comes about from inside a service's own container."""
    wanted = list(targets)
    return _which(wanted, platform.docker.attempt(["exec", platform.name(service), *_attempts(wanted)], limit=60).out)


def _attempts(targets: list[Target]) -> list[str]:
    """All at once: what is closed takes its whole time limit."""
    words = [word for host, port in targets for word in (host, str(port))]
    return ["bash", "-c", _CONNECT, "connect", *words]


def _which(targets: list[Target], said: str) -> set[Target]:
    assert "tried" in said.split(), f"the probe did not run: {said}"
    return {target for target in targets if f"{target[0]}:{target[1]}" in said.split()}
