"""What people do: one scenario each, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loadtests.users.base import Scenario
from loadtests.users.chat import Chat

SCENARIOS: Final[Mapping[str, Scenario]] = {one.name: one for one in (Chat(),)}
