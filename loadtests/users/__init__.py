"""What people do: one scenario each, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loadtests.users.base import Scenario

SCENARIOS: Final[Mapping[str, Scenario]] = {}
