"""One container shape for the whole platform: pinned, limited, checked, and without any right it does not need.

What a room says about its service is plain data (`ServiceArgs`); what hardening means is here, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi_docker as docker
from pulumi import ComponentResource, Input, Output, Resource, ResourceOptions

from stack.config.resources import Resources
from stack.config.units import mebibytes
from stack.host.component import Host, data_volume
from stack.host.networks import NetworkSpec
from stack.shape import NO_GPUS, UID, ConfigFile, Gpus, Health, Metrics, Publish

SEED_FOLDER: Final = "/seed"
CONFIG_LABEL: Final = "private-llm.config"
OWNER_MARK: Final = ".private-llm"
OWNER_MEMORY: Final = 64  # MiB: a shell and two small programs


@dataclass(frozen=True, kw_only=True)
class SecretFile:
    """Like ConfigFile, readable by the service's user alone (0400). The service follows changes by itself."""

    name: str
    folder: str
    file: str
    content: Output[str]
    chosen: bool = False
    """A person chose it and may have chosen it badly: no hash of it is kept, so no drift of it is seen."""


@dataclass(frozen=True, kw_only=True)
class ServiceArgs:
    """Everything that differs between two services."""

    image: Output[str]
    image_name: str
    networks: Sequence[NetworkSpec]
    resources: Resources
    health: Health
    metrics: Metrics
    command: Sequence[str] | None = None
    env: Mapping[str, Input[str]] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    """Path in the container -> kind of the data volume."""
    reads: Mapping[str, docker.Volume] = field(default_factory=dict)
    """Path in the container -> another service's data volume, which this one cannot change."""
    files: Sequence[ConfigFile | SecretFile] = ()
    tmpfs: Mapping[str, str] = field(default_factory=lambda: {"/tmp": "size=64m,mode=1777"})
    publish: Sequence[Publish] = ()
    gpus: Gpus = NO_GPUS
    user: int = UID
    stop_timeout: int = 10
    start_timeout: int = 120


class Service(ComponentResource):
    """A hardened container with its volumes, configuration and health check."""

    def __init__(
        self,
        name: str,
        host: Host,
        args: ServiceArgs,
        *,
        needs: Sequence[Resource] = (),
        parent: Resource | None = None,
    ) -> None:
        super().__init__("llm:service:Service", name, opts=ResourceOptions(parent=parent, provider=host.provider))
        self.name, self.host, self.args = name, host, args
        self.volumes = {path: data_volume(host, name, kind, self) for path, kind in args.data.items()}
        seeds = [self._seed(file) for file in args.files]
        self.owner = self._own(self.volumes) if self.volumes else None
        waits: list[Resource] = [*needs, *(seed for _, seed in seeds), *([self.owner] if self.owner else [])]
        self.container = self._container([volume for volume, _ in seeds], waits)
        # The hashes may be read: what is secret in these files is random, and a hash of it opens nothing. What a person
        # chose is not among them.
        self.config_files = [
            Output.unsecret(
                Output.all(
                    container=seed.name,
                    path=f"{SEED_FOLDER}/{file.file}",
                    content=file.content,
                    urns=[seed.urn, self.container.urn],
                ).apply(_config_file_record)
            )
            for file, (_, seed) in zip(args.files, seeds, strict=True)
            if isinstance(file, ConfigFile) or not file.chosen
        ]
        self.summary = {"name": name, "container": self.container.name, "image": args.image_name}
        self.register_outputs({"container": self.container.name})

    def _labels(self) -> dict[str, str]:
        plain = [
            f"{file.folder}/{file.file}\0{file.content}" for file in self.args.files if isinstance(file, ConfigFile)
        ]
        return self.host.labels(self.name) | {
            CONFIG_LABEL: _sha256("\0".join([*plain, repr(sorted(self.args.tmpfs.items()))]))
        }

    def _seed(self, file: ConfigFile | SecretFile) -> tuple[docker.Volume, docker.Container]:
        """A container that is never started: uploads do not work into a read-only root, but into its volume they do."""
        name = f"{self.name}-{file.name}"
        volume = docker.Volume(
            f"{name}-files",
            name=self.host.physical(f"{name}-files"),
            labels=[docker.VolumeLabelArgs(label=k, value=v) for k, v in self.host.labels(self.name).items()],
            opts=ResourceOptions(parent=self),
        )
        secret = isinstance(file, SecretFile)
        upload = docker.ContainerUploadArgs(
            file=f"{SEED_FOLDER}/{file.file}",
            content=file.content,
            permissions="0400" if secret else "0444",
            owner=str(self.args.user),
            group=str(self.args.user),
        )
        seed = docker.Container(
            f"{name}-seed",
            name=self.host.physical(f"{name}-seed"),
            image=self.host.image("base"),
            command=["true"],
            start=False,
            must_run=False,
            restart="no",
            network_mode="none",
            volumes=[docker.ContainerVolumeArgs(container_path=SEED_FOLDER, volume_name=volume.name)],
            uploads=[upload],
            labels=_label_args(self.host.labels(self.name)),
            opts=ResourceOptions(parent=self, delete_before_replace=True),
            # A read-only root refuses uploads, even those into its volumes; this container never runs.
            **(_HARDENING | {"read_only": False}),
        )
        return volume, seed

    def _own(self, volumes: Mapping[str, docker.Volume]) -> docker.Container:
        """Gives fresh volumes to the service's user; the mark keeps Docker from copying a root-owned folder in."""
        paths = [f"/own/{index}" for index in range(len(volumes))]
        user = self.args.user
        script = (
            f'for v in {" ".join(paths)}; do [ "$(stat -c %u "$v")" = {user} ] || '
            f'{{ touch "$v/{OWNER_MARK}" && chown {user}:{user} "$v"; }} || exit 1; done'
        )
        return docker.Container(
            f"{self.name}-owner",
            name=self.host.physical(f"{self.name}-owner"),
            image=self.host.image("base"),
            user="0:0",
            command=["sh", "-c", script],
            must_run=False,
            attach=True,
            restart="no",
            network_mode="none",
            memory=OWNER_MEMORY,
            memory_swap=OWNER_MEMORY,
            cpus="0.5",
            volumes=[
                docker.ContainerVolumeArgs(container_path=path, volume_name=volume.name)
                for path, volume in zip(paths, volumes.values(), strict=True)
            ],
            labels=_label_args(self.host.labels(self.name)),
            opts=ResourceOptions(parent=self, delete_before_replace=True),
            **(_HARDENING | {"capabilities": docker.ContainerCapabilitiesArgs(adds=["CAP_CHOWN"], drops=["ALL"])}),
        )

    def _container(self, seeds: Sequence[docker.Volume], waits: Sequence[Resource]) -> docker.Container:
        args, memory = self.args, mebibytes(self.args.resources.memory)
        mounts = [
            docker.ContainerVolumeArgs(container_path=path, volume_name=volume.name)
            for path, volume in self.volumes.items()
        ]
        read = [*args.reads.items(), *((file.folder, seed) for file, seed in zip(args.files, seeds, strict=True))]
        mounts += [
            docker.ContainerVolumeArgs(container_path=path, volume_name=volume.name, read_only=True)
            for path, volume in read
        ]
        return docker.Container(
            f"{self.name}-container",
            name=self.host.physical(self.name),
            image=args.image,
            command=list(args.command) if args.command is not None else None,
            user=f"{args.user}:{args.user}",
            envs=[Output.concat(key, "=", value) for key, value in sorted(args.env.items())],
            networks_advanced=[
                docker.ContainerNetworksAdvancedArgs(name=self.host.network(spec), aliases=[self.name])
                for spec in sorted(args.networks, key=lambda spec: spec.name)
            ],
            ports=[
                docker.ContainerPortArgs(
                    internal=port.internal, external=port.external, ip=port.address, protocol="tcp"
                )
                for port in sorted(args.publish, key=lambda port: port.internal)
            ],
            # Unsorted volumes, or memory without memory_swap, show a replacement on every `up`.
            volumes=sorted(mounts, key=lambda mount: str(mount.container_path)),
            memory=memory,
            memory_swap=memory,
            cpus=_cpus(args.resources.cpus),
            tmpfs=dict(args.tmpfs),
            gpus=args.gpus.request,
            devices=[
                docker.ContainerDeviceArgs(host_path=device, container_path=device, permissions="rwm")
                for device in args.gpus.devices
            ]
            or None,
            group_adds=list(args.gpus.groups) or None,
            healthcheck=docker.ContainerHealthcheckArgs(
                tests=list(args.health.test),
                interval=_duration(args.health.interval),
                timeout=_duration(args.health.timeout),
                start_period=_duration(args.health.start_period),
                retries=args.health.retries,
            ),
            wait=True,
            wait_timeout=args.start_timeout,
            restart="unless-stopped",
            stop_timeout=args.stop_timeout,
            labels=_label_args(self._labels()),
            opts=ResourceOptions(parent=self, delete_before_replace=True, depends_on=list(waits)),
            **_HARDENING,
        )


# What every container gets, those that never run included. Docker normalises other spellings: replaced on every `up`.
_HARDENING: Final[dict[str, Any]] = {
    "read_only": True,
    "privileged": False,
    "capabilities": docker.ContainerCapabilitiesArgs(drops=["ALL"]),
    "security_opts": ["no-new-privileges:true"],
    "log_driver": "json-file",
    "log_opts": {"max-size": "10m", "max-file": "3"},
}


def _label_args(labels: Mapping[str, str]) -> list[docker.ContainerLabelArgs]:
    return [docker.ContainerLabelArgs(label=key, value=value) for key, value in sorted(labels.items())]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _duration(seconds: int) -> str:
    """As Docker writes it back (`5s`, `2m0s`, `1h0m0s`); `120s` is the same time and a replacement on every `up`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _cpus(value: float) -> str:
    """As the provider reads it back from Docker (`1.0`, `0.5`, `10.`); other spellings are replaced on every `up`."""
    text = f"{value:g}"
    if value != int(value):
        return text
    return f"{text}." if "0" in text else f"{text}.0"


def _config_file_record(values: dict[str, Any]) -> dict[str, Any]:
    content = values.pop("content")
    return values | {"sha256": _sha256(content)}
