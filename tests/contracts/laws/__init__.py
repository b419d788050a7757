"""The laws: each a plain function over the whole recorded plan, that says what it looked at and what is wrong with it.

A law yields a finding for everything it looked at; a finding without a problem is a promise kept. A law that looked at
nothing has failed: an empty filter must not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from tests.support.recorder import Plan


@dataclass(frozen=True)
class Finding:
    """Something that was looked at; `problem` is empty when the promise is kept."""

    subject: str
    problem: str = ""


Law = Callable[[Plan], Iterator[Finding]]
SUBJECTS: Final = (
    "exposure", "routing", "networks", "secrets", "images", "names", "health", "hardening", "volumes", "scraping",
    "structure",
)  # fmt: skip


def finding(subject: object, kept: bool, problem: str) -> Finding:
    """A finding whose problem counts only when the promise is not kept."""
    return Finding(str(subject), "" if kept else problem)


def broken(law: Law, plan: Plan) -> list[str]:
    """What is wrong, one sentence each: stack, resource, problem, promise."""
    promise = (law.__doc__ or "").strip().partition("\n")[0]
    findings = list(law(plan))
    if not findings:
        return [f"{plan.sample}: the law looked at nothing; its promise: {promise}"]
    return [f"{plan.sample}: {f.subject}: {f.problem}; the promise: {promise}" for f in findings if f.problem]


def laws() -> dict[str, Law]:
    """`subject.law` -> function, of every public function of the subjects' modules."""
    found: dict[str, Law] = {}
    for subject in SUBJECTS:
        module = import_module(f"{__name__}.{subject}")
        found |= {
            f"{subject}.{name}": value
            for name, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
        }
    return found
