"""Metrics: Prometheus, the exporters it reads, Grafana where its image can be had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pulumi import ComponentResource, ResourceOptions

from stack.config.load import Environment
from stack.host import networks
from stack.host.component import Host
from stack.observability import grafana, scrape
from stack.observability.scrape import Target
from stack.parts import measures_gpus
from stack.service import Service, ServiceArgs
from stack.shape import ConfigFile, Endpoint, Gpus, Health, Metrics

NODE_PORT = 9100
GPU_PORT = 9835


def target(service: Service) -> Target:
    """Where a service's metrics are, by what it declares."""
    metrics = service.args.metrics
    endpoint = metrics.through or Endpoint(host=service.name, port=metrics.port)
    return Target(service=service.name, endpoint=endpoint, path=metrics.path)


def pages(env: Environment) -> dict[str, Endpoint]:
    """What there is to be shown to administrators, by name."""
    settings, found = env.platform.observability, {}
    if settings.enabled:
        found["prometheus"] = Endpoint(host="prometheus", port=scrape.PORT)
        if settings.grafana and env.parts.has(grafana.NAME):
            found[grafana.NAME] = Endpoint(host=grafana.NAME, port=grafana.PORT)
    return found


class Observability(ComponentResource):
    """Places everything that measures; `left_out` says what this source of parts does not have."""

    def __init__(self, env: Environment, host: Host, *, services: Sequence[Service], shown: Mapping[str, str]) -> None:
        """`shown`: where the gateway's admin listener shows which of the pages."""
        super().__init__("llm:observability:Observability", "observability", opts=ResourceOptions(parent=host))
        settings = env.platform.observability
        self.left_out: list[dict[str, str]] = []
        exporters = [self._node_exporter(env, host), *self._gpu_exporter(env, host)]
        own = Target(service="prometheus", endpoint=Endpoint(host="prometheus", port=scrape.PORT))
        read = [target(service) for service in [*services, *exporters] if not service.args.metrics.none_because]
        prometheus = Service(
            "prometheus",
            host,
            ServiceArgs(
                image=host.image("prometheus"),
                image_name=host.parts.image("prometheus"),
                networks=(networks.MONITOR,),
                resources=settings.prometheus,
                health=scrape.HEALTH,
                metrics=Metrics(port=scrape.PORT),
                command=scrape.command(settings.retention, shown.get("prometheus")),
                data={scrape.DATA_FOLDER: "data"},
                files=(
                    ConfigFile(
                        name="config",
                        folder=scrape.CONFIG_FOLDER,
                        file=scrape.CONFIG_FILE,
                        content=scrape.render([*read, own], interval=settings.scrape_interval),
                    ),
                ),
                stop_timeout=30,
            ),
            parent=self,
        )
        self.services = [*exporters, prometheus, *self._grafana(env, host, shown.get(grafana.NAME))]
        self.register_outputs({})

    def _node_exporter(self, env: Environment, host: Host) -> Service:
        # No folder of the host is mounted: CPU, memory, load and the disk below Docker are visible from inside.
        return Service(
            "node-exporter",
            host,
            ServiceArgs(
                image=host.image("node-exporter"),
                image_name=host.parts.image("node-exporter"),
                networks=(networks.MONITOR,),
                resources=env.platform.observability.exporters,
                health=Health(test=["CMD", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{NODE_PORT}/"]),
                metrics=Metrics(port=NODE_PORT),
                command=["--no-collector.netdev", "--no-collector.arp", "--no-collector.netstat"],
            ),
            parent=self,
        )

    def _gpu_exporter(self, env: Environment, host: Host) -> list[Service]:
        if not measures_gpus(env.platform):
            return []
        return [
            Service(
                "gpu-exporter",
                host,
                ServiceArgs(
                    image=host.image("gpu-exporter"),
                    image_name=host.parts.image("gpu-exporter"),
                    networks=(networks.MONITOR,),
                    resources=env.platform.observability.exporters,
                    health=Health(test=["CMD", "nvidia-smi", "-L"]),
                    metrics=Metrics(port=GPU_PORT),
                    gpus=Gpus(request="all"),
                ),
                parent=self,
            )
        ]

    def _grafana(self, env: Environment, host: Host, url: str | None) -> list[Service]:
        if not env.platform.observability.grafana:
            return []
        if not host.parts.has("grafana"):
            self.left_out.append({"name": "Grafana", "why": f"the {host.parts.source} source has no image of it"})
            return []
        return [
            Service(
                grafana.NAME,
                host,
                ServiceArgs(
                    image=host.image("grafana"),
                    image_name=host.parts.image("grafana"),
                    networks=(networks.MONITOR,),
                    resources=env.platform.observability.grafana_resources,
                    health=grafana.HEALTH,
                    metrics=Metrics(none_because="it shows the others' figures"),
                    env={**grafana.environment(url), "GF_SECURITY_ADMIN_PASSWORD": env.secrets.admin_password},
                    data={grafana.DATA_FOLDER: "data"},
                    files=(
                        ConfigFile(
                            name="sources",
                            folder=grafana.SOURCES_FOLDER,
                            file=grafana.SOURCES_FILE,
                            content=grafana.data_sources(Endpoint(host="prometheus", port=scrape.PORT)),
                        ),
                    ),
                ),
                parent=self,
            )
        ]
