"""The tailscale plugin's stand-in under the real Pulumi CLI, against a fake of Tailscale's API. No Docker needed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from offline import toolchain
from offline.plugins.install import ensure_installed, lasting
from ops import paths
from tests.support import tools
from tests.support.fake_tailscale import API_KEY, DEFAULT, FakeTailscale, fake_tailscale

pytestmark = pytest.mark.live

PROGRAM = """
import pulumi
import pulumi_tailscale as tailscale

policy = pulumi.Config().require("policy")
key = tailscale.TailnetKey("key", reusable=True, tags=["tag:b", "tag:a"], expiry=3600)
acl = tailscale.Acl("acl", acl=policy, reset_acl_on_destroy=True)
explicit = tailscale.Provider("explicit", tailnet="-")
tailscale.TailnetKey("once", description="single use", opts=pulumi.ResourceOptions(provider=explicit))
pulumi.export("key", key.key)
"""
POLICY = '{"grants": [], "tagOwners": {"tag:a": [], "tag:b": []}}'
SAME = '{ "tagOwners": {"tag:b": [], "tag:a": [],}, // ours\n "grants": [] }'


class Stack:
    """A small program of its own with a state of its own; only the stand-in is in its plugin cache."""

    def __init__(self, folder: Path, fake: FakeTailscale) -> None:
        self.folder = folder / "program"
        self.folder.mkdir()
        home = folder / "home"
        (tailscale,) = (plugin for plugin in toolchain.stand_ins({}) if plugin.name == "tailscale")
        ensure_installed(tailscale, home / "plugins", lasting(paths.VENV / "bin" / "python"), folder, lambda _: None)
        (self.folder / "Pulumi.yaml").write_text(
            "name: tailscale-stand-in\nmain: ./\n"
            f"runtime:\n  name: python\n  options:\n    virtualenv: {paths.VENV.resolve()}\n"
        )
        (self.folder / "__main__.py").write_text(PROGRAM)
        programs = toolchain.pulumi_folder(paths.cache())
        own = ("PULUMI_", "TAILSCALE_")
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(own)},
            "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}",
            "PULUMI_HOME": str(home),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "test",
            "TAILSCALE_API_KEY": API_KEY,
            "TAILSCALE_BASE_URL": fake.address,
        }
        self.said = ""

    def call(self, *arguments: str, code: int = 0) -> str:
        """Run the CLI; what it says."""
        command = ["pulumi", *arguments, "--non-interactive"]
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=300, check=False
        )
        self.said += done.stdout + done.stderr
        assert (done.returncode != 0) == bool(code), done.stdout + done.stderr
        return done.stdout

    def up(self, *arguments: str) -> dict[str, int]:
        """`pulumi up`: how many resources were created, updated, replaced and left as they were."""
        self.call("up", "--yes", "--skip-preview", *arguments)
        [last, *_] = json.loads(self.call("stack", "history", "--json"))
        changes: dict[str, int] = last["resourceChanges"]
        return changes


@pytest.fixture
def pulumi(tmp_path: Path) -> Any:
    if not (toolchain.pulumi_folder(paths.cache()) / "pulumi").is_file():
        tools.missing("the Pulumi CLI", "`make up` puts it into the cache")
    with fake_tailscale() as fake:
        yield Stack(tmp_path, fake), fake


def test_a_second_up_changes_nothing_and_an_invalid_key_is_replaced(pulumi: tuple[Stack, FakeTailscale]) -> None:
    stack, fake = pulumi
    stack.call("stack", "init", "one")
    stack.call("config", "set", "policy", POLICY)
    stack.call("preview")
    assert fake.asked == []
    assert stack.up() == {"create": 5}
    assert fake.policy == POLICY
    [first] = [number for number, key in fake.keys.items() if key["capabilities"]["devices"]["create"]["reusable"]]

    asked = len(fake.asked)
    assert stack.up() == {"same": 5}
    assert len(fake.asked) == asked
    stack.call("preview", "--refresh", "--expect-no-changes")
    stack.call("config", "set", "policy", SAME)
    assert stack.up("--refresh") == {"same": 5}

    for key in fake.keys.values():
        key["invalid"] = True
    fake.policy = "{}"
    assert stack.up("--refresh") == {"same": 3, "update": 1, "replace": 1}
    assert first not in fake.keys
    assert fake.policy == SAME

    assert "tskey-" not in stack.said
    assert stack.call("stack", "output", "key", "--show-secrets").strip() in {
        f"tskey-auth-{n}-secretpart" for n in fake.keys
    }
    state = "".join(file.read_text() for file in (stack.folder.parent / ".pulumi").rglob("*.json"))
    assert "tskey-" not in state
    assert "secretpart" not in state

    stack.call("destroy", "--yes", "--skip-preview")
    assert fake.keys == {}
    assert fake.policy == DEFAULT


def test_a_foreign_policy_is_refused_and_imported(pulumi: tuple[Stack, FakeTailscale]) -> None:
    stack, fake = pulumi
    fake.policy = '{"grants": ["theirs"]}'
    stack.call("stack", "init", "two")
    stack.call("config", "set", "policy", POLICY)
    stack.call("up", "--yes", "--skip-preview", code=1)
    assert "pulumi import tailscale:index/acl:Acl" in stack.said
    assert "Traceback" not in stack.said
    assert fake.policy == '{"grants": ["theirs"]}'
    stack.call("import", "tailscale:index/acl:Acl", "acl", "acl", "--yes", "--generate-code=false", "--protect=false")
    assert stack.up()["update"] == 1
    assert fake.policy == POLICY
    stack.env.pop("TAILSCALE_API_KEY")
    stack.call("preview", code=1)
    assert "set TAILSCALE_API_KEY" in stack.said
    assert "tskey-" not in stack.said
