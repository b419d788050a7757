"""What reaches the containers, file by file: a change of any of it shows as a change of a golden file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from ops.clients import APPS, render
from tests.conftest import recorded
from tests.support.clients import CONTEXT
from tests.support.golden import compare
from tests.support.recorder import Plan, Secret

HERE: Final = Path(__file__).parent


def environment(plan: Plan, container: str) -> str:
    """A container's settings, a line each; secret ones only say that they are."""
    envs = plan.one(container).envs
    return "\n".join(f"{name}={'<secret>' if isinstance(v, Secret) else v}" for name, v in sorted(envs.items()))


def client(app: str, _plan: Plan) -> str:
    """What `make client` prints for an app."""
    return render(APPS[app], CONTEXT)


# Golden file -> (sample, what is rendered).
GOLDEN: Final[dict[str, tuple[str, Callable[[Plan], str]]]] = {
    "gateway/caddy.dev.json": ("dev", lambda plan: plan.file("gateway-config")),
    "gateway/caddy.mirror.json": ("mirror", lambda plan: plan.file("gateway-config")),
    "gateway/caddy.full.json": ("full", lambda plan: plan.file("gateway-config")),
    "gateway/caddy.api-only.json": ("api-only", lambda plan: plan.file("gateway-config")),
    "gateway/caddy.own.json": ("own", lambda plan: plan.file("gateway-config")),
    "gateway/consumers.full.json": ("full", lambda plan: plan.file("gateway-consumers")),
    "prometheus/prometheus.dev.yml": ("dev", lambda plan: plan.file("prometheus-config")),
    "prometheus/prometheus.full.yml": ("full", lambda plan: plan.file("prometheus-config")),
    "prometheus/prometheus.own.yml": ("own", lambda plan: plan.file("prometheus-config")),
    "grafana/datasource.yml": ("dev", lambda plan: plan.file("grafana-sources")),
    "grafana/environment.dev.env": ("dev", lambda plan: environment(plan, "grafana-container")),
    "chat/environment.dev.env": ("dev", lambda plan: environment(plan, "chat-container")),
    "chat/environment.full.env": ("full", lambda plan: environment(plan, "chat-container")),
    "services/environment.own.env": ("own", lambda plan: environment(plan, "questions-container")),
    "ollama/environment.cpu.env": ("dev", lambda plan: environment(plan, "ollama-container")),
    "ollama/environment.nvidia.env": ("full", lambda plan: environment(plan, "ollama-container")),
    "ollama/environment.amd.env": ("amd", lambda plan: environment(plan, "ollama-container")),
    **{f"clients/{name}.txt": ("dev", partial(client, name)) for name in APPS},
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_file_is_as_reviewed(name: str, request: pytest.FixtureRequest) -> None:
    sample, render = GOLDEN[name]
    compare(render(recorded(sample)), HERE / name, update=request.config.getoption("--update"))


def test_every_golden_file_belongs_to_a_case() -> None:
    files = {
        str(path.relative_to(HERE)) for path in HERE.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert files == set(GOLDEN)


def test_no_secret_is_in_a_golden_file() -> None:
    texts = {name: (HERE / name).read_text() for name in GOLDEN}
    assert [name for name, text in texts.items() if "canary" in text] == []


def test_a_difference_is_shown_and_update_takes_it_over(tmp_path: Path) -> None:
    golden = tmp_path / "x.txt"
    compare("one\ntwo", golden, update=True)
    compare("one\ntwo\n", golden, update=False)
    with pytest.raises(AssertionError, match=r"(?s)--update.*-two.*\+three"):
        compare("one\nthree", golden, update=False)
