"""What people do: one scenario each, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loadtests.users.base import Scenario
from loadtests.users.chat import Chat
from loadtests.users.embed import Embed
from loadtests.users.mixed import Mixed
from loadtests.users.native import CALLS, Native
from loadtests.users.rag import Rag
from loadtests.users.ui import Ui

_ALL: Final[tuple[Scenario, ...]] = (
    Chat(), Embed(), Rag(), *(Native(call) for call in CALLS), Ui(), Ui("ui-file", upload=True),
    Mixed(lambda: SCENARIOS),
)  # fmt: skip
SCENARIOS: Final[Mapping[str, Scenario]] = {one.name: one for one in _ALL}
