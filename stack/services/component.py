"""A service of one's own: hardened like all others, on a network with the gateway and nobody else."""

from __future__ import annotations

import pulumi_docker as docker
from pulumi import ComponentResource, Input, Output, ResourceOptions

from stack.config.load import ROOT, Environment
from stack.config.services import OwnService
from stack.gateway.component import INNER, source_hash
from stack.gateway.service_routes import metrics_path
from stack.host import networks
from stack.host.component import Host
from stack.parts import SERVICE_BASE
from stack.service import Service, ServiceArgs
from stack.services import own
from stack.shape import Metrics


class Own(ComponentResource):
    """Places one service; it knows the models' API only when it may use it."""

    def __init__(self, env: Environment, host: Host, settings: OwnService) -> None:
        super().__init__("llm:services:Own", settings.name, opts=ResourceOptions(parent=host))
        told: dict[str, Input[str]] = dict(own.environment(settings, INNER))
        if settings.api:
            # In the environment, since that is the one place where OpenAI's libraries look by themselves.
            told["OPENAI_API_KEY"] = env.secrets.keys[settings.name]
        if settings.metrics:
            metrics = Metrics(through=INNER, path=metrics_path(settings))
        else:
            metrics = Metrics(none_because="its configuration names no path of metrics")
        self.service = Service(
            settings.name,
            host,
            ServiceArgs(
                image=_image(host, settings),
                image_name=settings.image or f"{settings.name} (built from {settings.build})",
                networks=(networks.of_service(settings.name),),
                resources=settings.resources,
                health=own.health(settings),
                metrics=metrics,
                env=told,
            ),
            parent=self,
        )
        self.register_outputs({})


def _image(host: Host, settings: OwnService) -> Output[str]:
    if settings.build is None:
        return host.given_image(settings.name, str(settings.image))
    arguments = {"BASE_IMAGE": host.parts.image(SERVICE_BASE)}
    return host.built_image(
        settings.name,
        source_hash(ROOT / settings.build, arguments),
        docker.RemoteImageBuildArgs(context=settings.build, build_args=arguments, remove=True),
    )
