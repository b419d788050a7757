"""`python -m ops <command>`: every command of the Makefile, with its words (STACK=…) in the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Final

from ops.errors import OpsError, advice, of_system
from ops.request import Request, parse

Command = Callable[[Request], int]

# Named, not imported: `make help` and the quick commands do not pay for the others.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("ops.lifecycle", "up"),
    "preview": ("ops.lifecycle", "preview"),
    "down": ("ops.lifecycle", "down"),
    "destroy": ("ops.lifecycle", "destroy"),
    "adopt": ("ops.lifecycle", "adopt"),
    "doctor": ("ops.lifecycle", "doctor"),
    "ask": ("ops.look", "ask"),
    "open": ("ops.look", "open_chat"),
    "status": ("ops.look", "status"),
    "logs": ("ops.look", "logs"),
    "env": ("ops.look", "env"),
    "key": ("ops.keys", "key"),
    "keys": ("ops.keys", "keys"),
    "basic": ("ops.keys", "basic"),
    "client": ("ops.client", "client"),
    "password": ("ops.look", "password"),
    "trust": ("ops.look", "trust"),
    "ca-renew": ("ops.look", "ca_renew"),
    "lock": ("ops.look", "lock"),
    "gateway-test": ("ops.look", "gateway_test"),
    "contract": ("ops.contract", "contract"),
    "plan": ("ops.plan", "plan"),
    "calibrate": ("ops.calibration", "calibrate"),
    "load": ("ops.load", "load"),
    "size": ("ops.size", "size"),
    "bench-deploy": ("ops.bench", "bench"),
}

# A load that failed its objectives ends with 1: what kept it from being measured is told apart.
MISTAKE: Final = {"load": 2}


def find(name: str) -> Command:
    """The function behind a command's name. Raises OpsError with the names there are."""
    if name not in COMMANDS:
        raise OpsError(f"`{name}` is not a command; there are: {', '.join(COMMANDS)} (`make help` explains them)")
    module, function = COMMANDS[name]
    command: Command = getattr(import_module(module), function)
    return command


def mistakes() -> tuple[type[Exception], ...]:
    """Errors whose text is for the person: shown without a traceback."""
    from offline.errors import OfflineError
    from ops.docker import DockerError
    from stack.capacity.gguf import GgufError
    from stack.capacity.shape import ShapeError
    from stack.config.explain import ConfigError

    return (OpsError, OfflineError, DockerError, ConfigError, GgufError, ShapeError)


def main(arguments: list[str]) -> int:
    """Runs one command; returns the exit status."""
    name = arguments[0] if arguments else ""
    try:
        return find(name)(parse(name, os.environ))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except mistakes() as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return MISTAKE.get(name, 1)
    except BrokenPipeError:
        return 141
    except OSError as trouble:
        print(f"error: {of_system(trouble)}\nfix: {advice(trouble)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
