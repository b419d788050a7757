"""The gateway: Caddy with our handlers, the one container that publishes ports."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pulumi_docker as docker
from pulumi import ComponentResource, Output, ResourceOptions

from stack.config import gateway as config
from stack.config.gateway import AdminListener, TlsMode
from stack.config.load import ROOT, Environment
from stack.config.units import mebibytes
from stack.gateway import addresses, admin_routes, consumers, places, routes, tls, upstreams
from stack.gateway.addresses import origin
from stack.host import networks
from stack.host.component import Host
from stack.parts import ServedModel
from stack.service import SecretFile, Service, ServiceArgs
from stack.shape import UID, ConfigFile, Endpoint, Health, Metrics, Publish

CONTEXT: Final = "images/gateway"
NAME: Final = "gateway"
ADMIN_ADDRESS: Final = "127.0.0.1"  # whatever the others are published on
INNER: Final = Endpoint(host=NAME, port=places.INNER_PORT)


class Gateway(ComponentResource):
    """Places the gateway and knows its public addresses."""

    def __init__(
        self,
        env: Environment,
        host: Host,
        *,
        models: tuple[ServedModel, ...],
        engines: tuple[Endpoint, ...],
        chat: Endpoint | None,
        pages: Mapping[str, Endpoint],
    ) -> None:
        """`pages`: Grafana and Prometheus by name, those that are there."""
        super().__init__("llm:gateway:Gateway", NAME, opts=ResourceOptions(parent=host))
        settings = env.platform.gateway
        behind = routes.Upstreams(
            engines=upstreams.engines(env.platform, engines),
            elsewhere=env.platform.upstreams,
            services=env.platform.services,
            chat=chat.address if chat else None,
            chat_keys=env.platform.chat.features.api_keys,
            grafana=pages["grafana"].address if "grafana" in pages else None,
            prometheus=pages["prometheus"].address if "prometheus" in pages else None,
        )
        rendered = routes.render(settings, models, behind)
        # What an authority has issued must outlast a restart: it issues a few a week. Our own are issued at each start.
        keeps = settings.tls.mode is TlsMode.ACME
        people = env.platform.consumers
        known = Output.all(**env.secrets.credentials)
        self.service = Service(
            NAME,
            host,
            ServiceArgs(
                image=_image(host),
                image_name=f"{NAME} (built from {CONTEXT})",
                networks=(
                    networks.EDGE,
                    networks.APP,
                    networks.ENGINE,
                    networks.MONITOR,
                    *(networks.of_service(service.name) for service in env.platform.services),
                ),
                resources=settings.resources,
                health=Health(
                    test=["CMD", "caddy", "health", "--url", f"http://127.0.0.1:{places.INNER_PORT}/live"],
                    interval=3,
                    start_period=10,
                ),
                metrics=Metrics(port=places.INNER_PORT),
                # Requests are read into memory: Go collects in time instead of being ended by the kernel.
                env={"GOMEMLIMIT": f"{mebibytes(settings.resources.memory) * 8 // 10}MiB"},
                data={places.DATA_FOLDER: "data"} if keeps else {},
                tmpfs={
                    "/tmp": "size=64m,mode=1777",
                    **({} if keeps else {places.DATA_FOLDER: f"size=16m,mode=0700,uid={UID},gid={UID}"}),
                    "/config": f"size=1m,mode=0700,uid={UID},gid={UID}",
                },
                publish=_published(settings),
                files=(
                    ConfigFile(
                        name="config", folder=places.CONFIG_FOLDER, file=places.CONFIG_FILE, content=rendered.to_json()
                    ),
                    *_certificates(env),
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
                    *(
                        SecretFile(
                            name=f"engine-key-{name}",
                            folder=upstreams.key_folder(name),
                            file=places.ENGINE_KEY_FILE,
                            content=key,
                            chosen=True,
                        )
                        for name, key in env.secrets.engine_keys.items()
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
        self.pages = admin_routes.shown(settings, pages)
        self.endpoints = {"chat": page if chat else "", "api": f"{api}/v1", "health": f"{any_}/health"}
        self.endpoints |= self.pages
        self.register_outputs({"url": self.url})


def _published(settings: config.Gateway) -> tuple[Publish, ...]:
    ports = (
        Publish(address=settings.address, external=settings.https_port, internal=places.HTTPS_PORT),
        Publish(address=settings.address, external=settings.http_port, internal=places.HTTP_PORT),
    )
    if settings.admin is not AdminListener.LOCAL:
        return ports
    return (*ports, Publish(address=ADMIN_ADDRESS, external=settings.admin_port, internal=places.ADMIN_PORT))


def _certificates(env: Environment) -> list[ConfigFile | SecretFile]:
    """Our authority where it vouches for a name, and the certificate that was given."""
    settings, found = env.platform.gateway, list[ConfigFile | SecretFile]()
    if tls.ours(settings):
        key = env.secrets.ca_key
        found += [
            ConfigFile(name="ca", folder=places.CA_FOLDER, file=places.CA_FILE, content=env.ca_certificate),
            SecretFile(name="ca-key", folder=places.CA_KEY_FOLDER, file=places.CA_KEY_FILE, content=key),
        ]
    if env.tls_certificate and env.secrets.tls_key:
        key = env.secrets.tls_key
        found += [
            ConfigFile(name="tls", folder=places.TLS_FOLDER, file=places.TLS_FILE, content=env.tls_certificate),
            SecretFile(name="tls-key", folder=places.TLS_KEY_FOLDER, file=places.TLS_KEY_FILE, content=key),
        ]
    return found


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
