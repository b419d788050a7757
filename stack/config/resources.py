"""What one container may use of its host. Pure."""

from __future__ import annotations

from stack.config.strict import Strict
from stack.config.texts import Cores
from stack.config.units import Size


class Resources(Strict):
    """The most that one container may use of its host."""

    memory: Size
    """Memory limit; swap is not used on top of it."""
    cpus: Cores
    """CPU limit, in cores."""
