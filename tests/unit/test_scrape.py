"""Prometheus' configuration and arguments, Grafana's data source."""

from __future__ import annotations

import yaml

from stack.observability import grafana, scrape
from stack.observability.scrape import Target
from stack.shape import Endpoint

TARGETS = [
    Target(service="gateway", endpoint=Endpoint(host="gateway", port=8081)),
    Target(service="gpu", endpoint=Endpoint(host="gpu", port=9835), path="/other"),
]


def test_each_target_is_a_job_of_its_own() -> None:
    config = yaml.safe_load(scrape.render(TARGETS, interval="30s"))
    assert config["global"] == {"scrape_interval": "30s", "evaluation_interval": "30s"}
    gateway, gpu = config["scrape_configs"]
    assert gateway["static_configs"] == [{"targets": ["gateway:8081"], "labels": {"service": "gateway"}}]
    assert (gpu["job_name"], gpu["metrics_path"]) == ("gpu", "/other")


def test_data_is_kept_where_the_volume_is() -> None:
    command = scrape.command("90d", None)
    assert f"--storage.tsdb.path={scrape.DATA_FOLDER}" in command
    assert "--storage.tsdb.retention.time=90d" in command
    assert f"--config.file={scrape.CONFIG_FOLDER}/{scrape.CONFIG_FILE}" in command
    assert not [word for word in command if word.startswith("--web.enable")]


def test_grafana_reads_prometheus_and_nobody_can_edit_that() -> None:
    (source,) = yaml.safe_load(grafana.data_sources(Endpoint(host="prometheus", port=9090)))["datasources"]
    assert (source["url"], source["isDefault"], source["editable"]) == ("http://prometheus:9090", True, False)


def test_grafana_calls_nobody_and_lets_nobody_in_without_a_password() -> None:
    settings = grafana.environment(None)
    assert settings["GF_AUTH_ANONYMOUS_ENABLED"] == settings["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert settings["GF_ANALYTICS_REPORTING_ENABLED"] == settings["GF_NEWS_NEWS_FEED_ENABLED"] == "false"
    assert not [name for name in settings if "PASSWORD" in name]


def test_what_the_admin_listener_shows_knows_its_own_address() -> None:
    settings = grafana.environment("https://localhost:9443/grafana")
    assert settings["GF_SERVER_ROOT_URL"] == "https://localhost:9443/grafana/"
    assert settings["GF_SERVER_SERVE_FROM_SUB_PATH"] == "true"
    command = scrape.command("90d", "https://localhost:9443/prometheus")
    assert {"--web.external-url=https://localhost:9443/prometheus/", "--web.route-prefix=/"} <= set(command)
