"""The program as a whole: what each configuration places, what a change touches, what is refused and when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pulumi
import pytest

from tests.conftest import recorded
from tests.contracts.laws import broken, laws
from tests.support.recorder import VOLUME, Plan, record, refusal
from tests.support.samples import SAMPLES

DEV: Final = SAMPLES["dev"]
CORE: Final = {"gateway", "ollama"}
METERS: Final = {"prometheus", "node-exporter"}
PAGES: Final = {"chat", "chroma"}


@pytest.mark.parametrize(
    ("sample", "services"),
    [
        ("dev", CORE | METERS | PAGES | {"grafana"}),
        ("mirror", CORE | METERS | PAGES),
        ("full", CORE | METERS | PAGES | {"grafana", "gpu-exporter"}),
        ("amd", CORE | METERS | PAGES | {"grafana"}),
        ("api-only", CORE | METERS),
        ("public", CORE | METERS | {"chat", "grafana"}),
        ("acme", CORE | METERS),
        ("own", CORE | METERS | PAGES | {"grafana", "gpu-exporter", "ollama-2", "questions", "status-page"}),
        ("elsewhere", CORE - {"ollama"} | METERS | {"grafana"}),
    ],
)
def test_a_sample_places_these_services(sample: str, services: set[str]) -> None:
    assert set(recorded(sample).services) == services


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({"observability": {"enabled": False}}, METERS | {"grafana"}),
        ({"observability": {"grafana": False}}, {"grafana"}),
        ({"memory": {"enabled": False}}, {"chroma"}),
        ({"chat": {"enabled": False}}, PAGES),
    ],
)
def test_what_is_switched_off_is_not_there(change: dict[str, Any], gone: set[str], tmp_path: Path) -> None:
    plan = record(DEV.variant(tmp_path, change))
    assert set(recorded("dev").services) - set(plan.services) == gone
    without_metrics = {name: law for name, law in laws().items() if not name.startswith("scraping.")}
    kept = without_metrics if "prometheus" in gone else laws()
    assert [problem for law in kept.values() for problem in broken(law, plan)] == []


def test_the_plan_does_not_depend_on_the_machine_or_the_day(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    monkeypatch.setenv("PRIVATE_LLM_ADOPT", "private-llm-dev-chat-data")
    monkeypatch.setenv("PULUMI_CONFIG", "{}")
    monkeypatch.chdir(tmp_path)
    assert record(DEV) == recorded("dev")


def test_adopting_takes_over_the_data_volumes_that_are_there_and_nothing_else(plan: Plan, tmp_path: Path) -> None:
    assert not [resource for resource in plan.resources if resource.import_id]
    data = {v.name: v.physical for v in plan.of(VOLUME) if v.protect}
    assert data
    for there in (data, dict([data.popitem()])):
        names = ",".join([*there.values(), "of-somebody-else"])
        adopting = record(plan.sample.variant(tmp_path, {}, environment={"PRIVATE_LLM_ADOPT": names}))
        assert {r.name: r.import_id for r in adopting.resources if r.import_id} == there


class TestWhatAChangeTouches:
    """What differs is replaced: a container that differs takes its users' open streams with it."""

    def touched(self, tmp_path: Path, change: dict[str, Any], **fields: Any) -> set[str]:
        other = record(DEV.variant(tmp_path, change, **fields))
        before = {
            r.urn: (r.name, json.dumps(r.inputs, default=vars, sort_keys=True)) for r in recorded("dev").resources
        }
        after = {r.urn: (r.name, json.dumps(r.inputs, default=vars, sort_keys=True)) for r in other.resources}
        return {name for urn, (name, _) in (before | after).items() if before.get(urn) != after.get(urn)}

    def test_a_new_consumer_touches_the_consumers_file_alone(self, tmp_path: Path) -> None:
        consumers = [{"name": "default"}, {"name": "chat"}, {"name": "new"}]
        assert self.touched(tmp_path, {"consumers": consumers}) == {"gateway-consumers-seed"}

    def test_a_new_key_touches_the_consumers_file_alone(self, tmp_path: Path) -> None:
        assert self.touched(tmp_path, {}, rotated=("key-default",)) == {"gateway-consumers-seed"}

    def test_a_new_key_of_the_chat_restarts_the_chat(self, tmp_path: Path) -> None:
        found = self.touched(tmp_path, {}, rotated=("key-chat",))
        assert found == {"gateway-consumers-seed", "chat-container"}

    def test_a_limit_of_the_gateway_touches_the_gateway_alone(self, tmp_path: Path) -> None:
        found = self.touched(tmp_path, {"gateway": {"maxBody": "1MiB"}})
        assert found == {"gateway-config-seed", "gateway-container"}

    def test_a_scrape_interval_touches_prometheus_alone(self, tmp_path: Path) -> None:
        found = self.touched(tmp_path, {"observability": {"scrapeInterval": "60s"}})
        assert found == {"prometheus-config-seed", "prometheus-container"}

    def test_a_setting_of_the_engine_leaves_the_models_in_place(self, tmp_path: Path) -> None:
        found = self.touched(tmp_path, {"engine": {"keepAlive": "1m"}})
        assert found == {"ollama-container"}

    def test_what_an_engine_takes_is_said_to_the_gateway_too(self, tmp_path: Path) -> None:
        found = self.touched(tmp_path, {"engine": {"parallel": 1}})
        assert found == {"ollama-container", "gateway-config-seed", "gateway-container"}

    def test_nothing_changes_when_nothing_changed(self, tmp_path: Path) -> None:
        assert self.touched(tmp_path, {}) == set()


class TestRefusal:
    def test_a_wrong_configuration_registers_nothing_and_shows_no_traceback(self, tmp_path: Path) -> None:
        error, registered = refusal(DEV.variant(tmp_path, {"gateway": {"adress": "127.0.0.1"}}))
        assert registered == []
        assert isinstance(error, pulumi.RunError), "Pulumi shows a traceback for any other error"
        assert "gateway.adress" in str(error)
        assert "address" in str(error)

    def test_a_public_address_registers_nothing(self, tmp_path: Path) -> None:
        error, registered = refusal(DEV.variant(tmp_path, {"gateway": {"address": "0.0.0.0"}}))
        assert (registered, type(error)) == ([], pulumi.RunError)
        assert "0.0.0.0" in str(error)
