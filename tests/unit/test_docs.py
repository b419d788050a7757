"""The documents: the reference has every key, its example works, links lead somewhere, decisions are numbered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.config import forms
from stack.config.explain import parse_platform
from stack.config.reference import EXAMPLE, render
from stack.config.schema import ROOT
from tests.unit.test_config_errors import LEAVES
from tests.unit.test_config_schema import VALIDATOR

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])


def test_the_complete_example_is_valid_in_schema_and_model() -> None:
    content = yaml.safe_load(EXAMPLE)
    VALIDATOR.validate(content)
    parse_platform(content["config"]["private-llm:platform"], "docs/configuration.md")


def test_the_complete_example_is_complete() -> None:
    platform = yaml.safe_load(EXAMPLE)["config"]["private-llm:platform"]
    missing = [".".join(leaf) for leaf in LEAVES if not _used(platform, leaf)]
    assert missing == []


def _used(node: Any, leaf: tuple[str, ...]) -> bool:
    if not leaf:
        return True
    if leaf[0].isdigit():
        return any(_used(entry, leaf[1:]) for entry in node)
    return leaf[0] in node and _used(node[leaf[0]], leaf[1:])


def test_the_example_is_in_the_page() -> None:
    assert f"```yaml\n{EXAMPLE}```" in render()


@pytest.mark.parametrize("leaf", LEAVES, ids=".".join)
def test_the_reference_has_a_row_with_form_and_meaning_for_every_key(leaf: tuple[str, ...]) -> None:
    node = forms.node_at([0 if step.isdigit() else step for step in leaf])
    assert node is not None
    rows = [line for line in render().splitlines() if line.startswith(f"| `{leaf[-1]}` |")]
    assert any(forms.describe(node) in row for row in rows)
    assert all(cell.strip() for row in rows for cell in row.strip("|").split(" | "))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_inside_the_tree_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.relative_to(ROOT)}: {target} leads nowhere"
        if anchor and linked.suffix == ".md":
            assert anchor in _anchors(linked.read_text()), f"{page.relative_to(ROOT)}: no heading for {target}"


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'id="([^"]+)"', text))


def test_decisions_are_numbered_without_gaps_and_have_the_three_parts() -> None:
    records = sorted((DOCS / "adr").glob("[0-9]*.md"))
    assert [record.name[:4] for record in records] == [f"{number:04}" for number in range(1, len(records) + 1)]
    assert len(records) >= 5
    for record in records:
        text = record.read_text()
        for part in ("## Decision", "## Reason", "## Consequence"):
            assert f"\n{part}" in text, f"{record.name} has no {part}"
        assert len(text.splitlines()) <= 60, f"{record.name} is longer than a page"
