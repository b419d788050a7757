"""Every law, on every sample: run it against the real program's plan."""

from __future__ import annotations

import pytest

from tests.contracts.laws import Law, broken, laws
from tests.support.recorder import Plan


@pytest.mark.parametrize("law", laws().values(), ids=laws())
def test_the_plan_keeps(law: Law, plan: Plan) -> None:
    assert broken(law, plan) == []
