"""What people do: one scenario each, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loadtests.target import Target
from loadtests.users import page
from loadtests.users.accounts import Crew, pool
from loadtests.users.base import Scenario
from loadtests.users.chat import Chat
from loadtests.users.embed import Embed
from loadtests.users.mixed import Mixed
from loadtests.users.native import CALLS, Native
from loadtests.users.rag import Rag
from loadtests.users.ui import Ui
from loadtests.workload.mix import SIGNED_IN, kinds
from loadtests.workload.profiles import Profile

_ALL: Final[tuple[Scenario, ...]] = (
    Chat(), Embed(), Rag(), *(Native(call) for call in CALLS), Ui(), Ui("ui-file", upload=True),
    Mixed(lambda: SCENARIOS),
)  # fmt: skip
SCENARIOS: Final[Mapping[str, Scenario]] = {one.name: one for one in _ALL}


def signed_in(
    profile: Profile, target: Target, environment: Mapping[str, str], crew: Crew, *, people: int = 1, workers: int = 1
) -> dict[str, str]:
    """The sessions of the chat for all workers of a run, as variables; none where nobody signs in.

    However many workers there are, a password is tried once: the chat and the gateway limit that. An administrator's
    sign-in makes accounts, with the crew, for so many people; else all share that of the sign-in.

    Raises:
        CannotGoOn: signing in does not work, or what it takes is not there.
        ValueError: the shares of a mixed profile are none.
        KeyboardInterrupt: the run is to end.
    """
    if not SIGNED_IN & kinds(profile, environment):
        return {}
    session = page.sign_in(target, environment)
    tokens = crew.make(target, session.tokens[0], pool(people, workers)) if session.admin else session.tokens
    return {page.TOKEN: " ".join(tokens)}
