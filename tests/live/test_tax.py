"""The gateway's tax on a real platform: measured from where the gateway is, since nobody else reaches the engine."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from loadtests.results import store
from tests.support.live.platform import Platform


def test_a_load_run_tells_what_the_gateway_adds(platform: Platform, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root enters a network namespace")
    done = platform.ops("load", TAX="1", USERS="1", FOR="10s", PROFILE="chat", OUT=str(tmp_path / "run"), limit=240)
    assert "gateway tax: 4 at once, " in done.text
    found = store.read(tmp_path / "run" / "result.json")
    assert found.tax is not None
    assert found.tax.through == platform.url
    direct = urlsplit(found.tax.direct)
    assert (direct.scheme, ip_address(str(direct.hostname)).is_private, direct.port) == ("http", True, 11434)
    assert [(one.streams, one.failed) for one in found.tax.levels] == [(1, 0), (4, 0)]
    first = found.tax.levels[0].added[0]
    assert first.metric == "ttft"
    assert first.pairs >= 10, "what fits into a minute on a machine that is busy"
    assert first.low < 0.05, "a gateway does not take so long"
    assert found.tax.levels[0].cpu is not None
    assert found.tax.handshake is not None
    assert found.tax.handshake.tls is not None
    assert "The gateway adds" in (tmp_path / "run" / "summary.md").read_text()
    assert "sk-" not in done.text + (tmp_path / "run" / "result.json").read_text()
