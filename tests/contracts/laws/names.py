"""Names: found in `docker ps`, unique without looking at parents, and telling where the code is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tests.contracts.laws import Finding, finding
from tests.contracts.laws.networks import PREFIX
from tests.support.recorder import CONTAINER, NETWORK, VOLUME, Plan
from tests.support.samples import ROOT, STACK

NAMED: Final = (CONTAINER, VOLUME, NETWORK)
LABELS: Final = ("private-llm.stack", "private-llm.service")


def physical_names_say_project_and_stack(plan: Plan) -> Iterator[Finding]:
    """A physical name is `<project>-<stack>-` and the logical name without its kind."""
    for typ in NAMED:
        for resource in plan.of(typ):
            wanted = PREFIX + re.sub("-(container|network)$", "", resource.name)
            yield finding(resource, resource.physical == wanted, f"is called {resource.physical}, not {wanted}")


def names_are_unique(plan: Plan) -> Iterator[Finding]:
    """No two resources of a provider share a logical name, no two of a kind a physical one."""
    logical = Counter(r.name for r in plan.resources if r.custom)
    physical = Counter((typ, r.physical) for typ in NAMED for r in plan.of(typ))
    for resource in (r for r in plan.resources if r.custom):
        yield finding(resource, logical[resource.name] == 1, "another resource has the same logical name")
        key = (resource.typ, resource.physical)
        yield finding(resource, physical[key] < 2, f"another one is called {resource.physical} too")


def names_can_be_host_names(plan: Plan) -> Iterator[Finding]:
    """A service's name is a DNS label: it is its address on its networks."""
    for service, container in plan.services.items():
        yield finding(container, bool(re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", service)), "is no DNS label")


def type_tokens_say_the_room(plan: Plan) -> Iterator[Finding]:
    """A component's type is `llm:<room>:<Class>`, and that class is in that room's folder or module."""
    for resource in plan.resources:
        if resource.custom:
            continue
        package, _, rest = resource.typ.partition(":")
        room, _, kind = rest.partition(":")
        files = [ROOT / "stack" / room / "component.py", ROOT / "stack" / f"{room}.py"]
        source = "".join(file.read_text() for file in files if file.is_file())
        known = f"class {kind}(ComponentResource)" in source and f'"{resource.typ}"' in source
        yield finding(resource, package == "llm" and known, f"type {resource.typ} does not lead to its class")


def everything_is_labelled(plan: Plan) -> Iterator[Finding]:
    """Containers, volumes and networks carry the labels that clean-up, status and the contracts find them by."""
    for typ in NAMED:
        for resource in plan.of(typ):
            labels = resource.labels
            yield finding(resource, labels.get(LABELS[0]) == STACK, f"has no label {LABELS[0]}={STACK}")
            service = labels.get(LABELS[1], "")
            yield finding(resource, bool(service) and resource.name.startswith(service), f"is labelled as {service!r}")


def labels_are_in_order(plan: Plan) -> Iterator[Finding]:
    """Labels are sorted by name: otherwise a refresh shows them as changed."""
    for typ in NAMED:
        for resource in plan.of(typ):
            names = [entry["label"] for entry in resource.clear("labels", [])]
            yield finding(resource, names == sorted(set(names)), f"has its labels in the order {names}")
