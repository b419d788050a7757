"""The gateway: Caddy with our handlers, the one container that publishes ports."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import pulumi_docker as docker
from pulumi import ComponentResource, Output, ResourceOptions

from stack.config.load import ROOT, Environment
from stack.config.units import mebibytes
from stack.gateway import addresses, caddy, consumers, places, routes
from stack.gateway.addresses import origin
from stack.host import networks
from stack.host.component import Host
from stack.parts import ServedModel
from stack.service import SecretFile, Service, ServiceArgs
from stack.shape import UID, ConfigFile, Endpoint, Health, Metrics, Publish

CONTEXT: Final = "images/gateway"
NAME: Final = "gateway"
INNER: Final = Endpoint(host=NAME, port=places.INNER_PORT)


class Gateway(ComponentResource):
    """Places the gateway and knows its public addresses."""

    def __init__(
        self, env: Environment, host: Host, *, models: tuple[ServedModel, ...], engine: Endpoint, chat: Endpoint | None
    ) -> None:
        super().__init__("llm:gateway:Gateway", NAME, opts=ResourceOptions(parent=host))
        settings = env.platform.gateway
        upstreams = routes.Upstreams(
            engines={"ollama": caddy.Engine(instances=[engine.address], kind="ollama")},
            chat=chat.address if chat else None,
            chat_keys=env.platform.chat.features.api_keys,
        )
        config = routes.render(settings, models, upstreams)
        people = env.platform.consumers
        known = Output.all(**env.secrets.credentials)
        self.service = Service(
            NAME,
            host,
            ServiceArgs(
                image=_image(host),
                image_name=f"{NAME} (built from {CONTEXT})",
                networks=(networks.EDGE, networks.APP, networks.ENGINE, networks.MONITOR),
                resources=settings.resources,
                health=Health(
                    test=["CMD", "caddy", "health", "--url", f"http://127.0.0.1:{places.INNER_PORT}/live"],
                    interval=3,
                    start_period=10,
                ),
                metrics=Metrics(port=places.INNER_PORT),
                # Requests are read into memory: Go collects in time instead of being ended by the kernel.
                env={"GOMEMLIMIT": f"{mebibytes(settings.resources.memory) * 8 // 10}MiB"},
                # Certificates are issued again from our root at each start: nothing in here needs keeping.
                tmpfs={
                    "/tmp": "size=64m,mode=1777",
                    "/data": f"size=16m,mode=0700,uid={UID},gid={UID}",
                    "/config": f"size=1m,mode=0700,uid={UID},gid={UID}",
                },
                publish=(
                    Publish(address=settings.address, external=settings.https_port, internal=places.HTTPS_PORT),
                    Publish(address=settings.address, external=settings.http_port, internal=places.HTTP_PORT),
                ),
                files=(
                    ConfigFile(
                        name="config", folder=places.CONFIG_FOLDER, file=places.CONFIG_FILE, content=config.to_json()
                    ),
                    ConfigFile(name="ca", folder=places.CA_FOLDER, file=places.CA_FILE, content=env.ca_certificate),
                    SecretFile(
                        name="ca-key", folder=places.CA_KEY_FOLDER, file=places.CA_KEY_FILE, content=env.secrets.ca_key
                    ),
                    SecretFile(
                        name="consumers",
                        folder=places.CONSUMERS_FOLDER,
                        file=places.CONSUMERS_FILE,
                        content=Output.secret(
                            known.apply(
                                lambda found: consumers.render(people, found, models, default=settings.limits.api)
                            )
                        ),
                    ),
                ),
            ),
            parent=self,
        )
        api, page, any_ = (
            origin(where(settings)[0], settings.https_port)
            for where in (addresses.api_names, addresses.chat_names, addresses.names)
        )
        self.url = page if chat else api
        self.endpoints = {"chat": page if chat else "", "api": f"{api}/v1", "health": f"{any_}/health"}
        self.register_outputs({"url": self.url})


def _image(host: Host) -> Output[str]:
    arguments = {"BUILDER_IMAGE": host.parts.image("gateway-builder"), "RUNTIME_IMAGE": host.parts.image("base")}
    return host.built_image(
        NAME,
        source_hash(ROOT / CONTEXT, arguments),
        docker.RemoteImageBuildArgs(context=CONTEXT, build_args=arguments, remove=True),
    )


def source_hash(folder: Path, arguments: dict[str, str]) -> str:
    """Twelve digits that change with every file of the build context (tests left out) and every build argument."""
    digest = hashlib.sha256(repr(sorted(arguments.items())).encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("_test.go")):
        digest.update(f"\0{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
