"""`python -m tests.attack`, the command behind `make attack`: its words SEED, N, ONLY, REST are in the environment."""

from __future__ import annotations

import json
import os
import sys
from typing import Final

from tests.attack import run

SEED: Final = 20261103
REQUESTS: Final = 3000
REST: Final = 60  # seconds
MOST: Final = 10**12


def word(name: str, default: int) -> int:
    """A whole number that was typed after `make attack`. Ends the run with a sentence for anything else."""
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > MOST:
        sys.exit(f"error: {name}={text}: a whole number, for example {name}=7 (or leave it out)")
    return int(text)


def tell(text: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Runs it; the exit status says whether every target was reached."""
    seed = word("SEED", SEED)
    if os.environ.get("ONLY"):
        for text in run.again(seed, word("ONLY", 0)):
            tell(text)
        return 0
    result = run.run(seed, word("N", REQUESTS), rest=word("REST", REST), tell=tell)
    tell(run.table(result))
    tell(run.report(result))
    missed = result.missed()
    for sentence in missed:
        tell(f"missed: {sentence}")
    tell(json.dumps(result.line))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
