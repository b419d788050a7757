"""Pulumi's provider protocol: the generated messages, without importing the `pulumi` package around them.

`import pulumi` costs a fifth of a second at each plugin start and a plugin starts several times per command; the
generated modules need none of it, so they are loaded from an empty stand-in of the same name.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from typing import Any

ENCLOSING = ("pulumi", "pulumi.runtime", "pulumi.runtime.proto")


def load(*names: str) -> list[Any]:
    """The generated modules called `names` (such as `provider_pb2`) of Pulumi's Python SDK."""
    if "pulumi" in sys.modules:
        return [importlib.import_module(f"pulumi.runtime.proto.{name}") for name in names]
    for place, enclosing in enumerate(ENCLOSING):
        path = None if place == 0 else sys.modules[ENCLOSING[place - 1]].__path__
        spec = importlib.machinery.PathFinder.find_spec(enclosing, path)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"the Python that runs this plugin has no {enclosing}", name=enclosing)
        module = types.ModuleType(enclosing)
        module.__path__ = list(spec.submodule_search_locations)
        sys.modules[enclosing] = module
    return [importlib.import_module(f"pulumi.runtime.proto.{name}") for name in names]
