"""What the program writes, read by the programs it is for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stack.gateway import places
from tests.support import tools
from tests.support.gateway import Running, moved, write_authority
from tests.support.recorder import Plan


def test_caddy_takes_the_gateways_configuration(plan: Plan, tmp_path: Path) -> None:
    write_authority(plan.sample.platform, tmp_path)
    (tmp_path / places.CONSUMERS_FILE).write_text(plan.file("gateway-consumers"))
    config = tmp_path / places.CONFIG_FILE
    config.write_text(moved(plan.file("gateway-config"), Running(https=1, http=2, inner=3, admin=4, folder=tmp_path)))
    done = subprocess.run([tools.caddy(), "validate", "--config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_caddy_refuses_a_misspelt_handler(tmp_path: Path) -> None:
    config = tmp_path / "caddy.json"
    config.write_text('{"apps":{"http":{"servers":{"x":{"routes":[{"handle":[{"handler":"llm_autth"}]}]}}}}}')
    assert subprocess.run([tools.caddy(), "validate", "--config", config], capture_output=True, check=False).returncode


def test_promtool_takes_prometheus_configuration(plan: Plan, tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text(plan.file("prometheus-config"))
    done = subprocess.run([tools.promtool(), "check", "config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_refuses_an_unknown_setting(tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {scrape_intervall: 15s}\n")
    done = subprocess.run([tools.promtool(), "check", "config", config], capture_output=True, check=False)
    assert done.returncode


def test_a_missing_program_is_a_skip_on_a_laptop_and_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is missing: from the shop"):
        tools.program("no-such-program", "from the shop")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        tools.program("no-such-program", "from the shop")
