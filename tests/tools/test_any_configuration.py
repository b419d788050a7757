"""What any allowed configuration renders to is taken by the real Caddy."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings

from stack.config.model import Platform
from stack.gateway import places
from tests.support import tools
from tests.support.gateway import Running, moved, write_authority
from tests.support.platforms import Rendered, platforms


def validated(config: str, folder: Path) -> str:
    """What Caddy says against a configuration; empty when it takes it."""
    file = folder / places.CONFIG_FILE
    file.write_text(config)
    done = subprocess.run([tools.caddy(), "validate", "--config", file], capture_output=True, text=True, check=False)
    return done.stderr[-2000:] if done.returncode else ""


@settings(max_examples=25, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(platforms())
def test_caddy_takes_it(platform: Platform) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_authority(platform, folder)
        (folder / places.CONSUMERS_FILE).write_text('{"version": 1, "consumers": []}')
        text = moved(
            Rendered(platform).file("gateway-config"), Running(https=1, http=2, inner=3, admin=4, folder=folder)
        )
        assert validated(text, folder) == ""
