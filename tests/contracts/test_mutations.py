"""A law that cannot fail is none: each notices the plans that were broken for it."""

from __future__ import annotations

import pytest

from tests.conftest import recorded
from tests.contracts.laws import broken, laws
from tests.contracts.mutations import MUTATIONS, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.law}: {m.what}")
def test_the_law_notices(mutation: Mutation) -> None:
    law, plan = laws()[mutation.law], recorded(mutation.sample)
    assert broken(law, plan) == [], "the law is broken before anything was changed"
    assert broken(law, mutation.apply(plan)), f"nobody noticed that {mutation.what}"


def test_every_law_is_proven_to_fail() -> None:
    assert sorted({mutation.law for mutation in MUTATIONS}) == sorted(laws())


def test_a_law_that_looks_at_nothing_has_failed() -> None:
    assert broken(lambda _: iter(()), recorded("dev")) != []
