"""What was typed after `make` and means nothing there: told before anything starts, with the nearest that does.

Standard library only; it runs on the system's Python, as `python3 -m ops.typed load USER 3 "load=USERS RATE" …`: the
targets, variables that none of them takes, what is no target, and the words of every target. Names alone come here: a
variable's value may be a key.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Final

COMMON: Final = ("STACK", "PYTHON")
"""Words of every target."""
NAME: Final = re.compile(r"[\w.,:-]{1,16}")
"""What stands alone may be a key with a blank before it: only what is too short for one is said again."""


def sentences(
    targets: Sequence[str], strays: Sequence[str], odd: Sequence[str], table: Mapping[str, Sequence[str]]
) -> list[str]:
    """What is wrong and what is allowed, in lines for people.

    Args:
        targets: those that were asked for.
        strays: names of variables that none of them takes.
        odd: what was asked for as a target and is none.
        table: every target with the words that it takes.
    """
    allowed = list(dict.fromkeys(word for target in targets for word in table[target]))
    command = f"`make {' '.join(targets)}`"
    wrong = [_stray(one, command, allowed, table) for one in strays] + [_odd(one, allowed, table) for one in odd]
    takes = f"takes {' '.join(allowed)}" if allowed else "takes no words of its own"
    return [*(f"error: {one}" for one in wrong), f"{command} {takes}; all targets take {' '.join(COMMON)}"]


def _stray(name: str, command: str, allowed: Sequence[str], table: Mapping[str, Sequence[str]]) -> str:
    """Why a variable is none of the words."""
    if others := ", ".join(f"`make {target}`" for target, words in sorted(table.items()) if name in words):
        return f"{name}=… would do nothing for {command}; it is a word of {others}"
    if near := _near(name.upper(), (*allowed, *COMMON)):
        return f"{command} has no word {name}; did you mean {near}=…?"
    return (
        f"{command} has no word {name}; what is meant for another program goes in front: {name}=… {command.strip('`')}"
    )


def _odd(name: str, allowed: Sequence[str], table: Mapping[str, Sequence[str]]) -> str:
    """Why something is no target."""
    if name.upper() in (*allowed, *COMMON):
        return f"{name} is a word and no target: write {name.upper()}=…, with its value behind it and no blank between"
    if near := _near(name, sorted(table)):
        return f"{name} is no target; did you mean {near}?"
    said = name if NAME.fullmatch(name) else "what stands alone"
    return f"{said} is no target; is it a value? It follows its word without a blank, as in STACK=dev"


def _near(name: str, known: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), "")


def main(arguments: Sequence[str]) -> int:
    """Tells it on standard output."""
    targets, strays, odd, *rows = arguments
    table = {target: words.split() for target, _, words in (row.partition("=") for row in rows)}
    sys.stdout.write("\n".join(sentences(targets.split(), strays.split(), odd.split(), table)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
