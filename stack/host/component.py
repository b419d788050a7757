"""A Docker host: its provider, networks and images, and the names everything on it has."""

from __future__ import annotations

import pulumi
import pulumi_docker as docker
from pulumi import ComponentResource, Output, ResourceOptions

from stack.host import networks
from stack.host.networks import NetworkSpec
from stack.parts import Parts

STACK_LABEL = "private-llm.stack"
SERVICE_LABEL = "private-llm.service"
# `internal` alone stops what would be forwarded, not what is for the host itself: a container would reach every
# program that listens on it. Without an address of the host on the bridge there is no way there.
_NO_ADDRESS = {"com.docker.network.bridge.inhibit_ipv4": "true"}


class Host(ComponentResource):
    """Places what services share. Everything below it uses its provider, never a default one."""

    def __init__(self, name: str, *, prefix: str, stack: str, parts: Parts, adopt: frozenset[str]) -> None:
        super().__init__("llm:host:Host", name)
        self.prefix, self.stack, self.parts, self.adopt = prefix, stack, parts, adopt
        # No address here: the daemon is the one of DOCKER_HOST, for the provider and the docker command alike.
        self.provider = docker.Provider(f"{name}-docker", opts=ResourceOptions(parent=self))
        self.opts = ResourceOptions(parent=self, provider=self.provider)
        self._images: dict[str, docker.RemoteImage] = {}
        self._networks = {spec.name: self._network(spec) for spec in networks.ALL}
        self.register_outputs({})

    def physical(self, name: str) -> str:
        """The name people see in `docker ps`."""
        return f"{self.prefix}-{name}"

    def labels(self, service: str) -> dict[str, str]:
        """What clean-up, `make status` and the contracts find things by. They never change: that replaces a volume."""
        return {SERVICE_LABEL: service, STACK_LABEL: self.stack}  # sorted: unsorted ones show as drift

    def network(self, spec: NetworkSpec) -> Output[str]:
        """The network's name as an output, so that services wait for it."""
        if spec.name not in self._networks:
            self._networks[spec.name] = self._network(spec)
        return self._networks[spec.name].name

    def image(self, name: str) -> Output[str]:
        """The id of an image of the lock, pulled once per host. Raises MissingPart."""
        if name not in self._images:
            self._images[name] = docker.RemoteImage(
                f"{name}-image", name=self.parts.image(name), keep_locally=True, opts=self.opts
            )
        return self._images[name].image_id

    def built_image(self, name: str, tag: str, build: docker.RemoteImageBuildArgs) -> Output[str]:
        """The id of an image built from this repository; `tag` is the hash of what goes in, so a change rebuilds."""
        image = docker.RemoteImage(
            f"{name}-image", name=f"private-llm-{name}:{tag}", build=build, keep_locally=True, opts=self.opts
        )
        return image.image_id

    def given_image(self, name: str, reference: str) -> Output[str]:
        """The id of somebody else's image, by its digest."""
        return docker.RemoteImage(f"{name}-image", name=reference, keep_locally=True, opts=self.opts).image_id

    def _network(self, spec: NetworkSpec) -> docker.Network:
        return docker.Network(
            f"{spec.name}-network",
            name=self.physical(spec.name),
            driver="bridge",
            internal=spec.internal,
            options=_NO_ADDRESS if spec.internal else None,
            labels=[docker.NetworkLabelArgs(label=key, value=value) for key, value in self.labels(spec.name).items()],
            # Docker allows two networks of one name: the old one has to go first, and with it what is connected.
            opts=ResourceOptions(parent=self, provider=self.provider, delete_before_replace=True),
        )


def data_volume(host: Host, service: str, kind: str, parent: pulumi.Resource) -> docker.Volume:
    """A volume that people's data lives in: fixed name, survives destroy, found again by the next `up`."""
    physical = host.physical(f"{service}-{kind}")
    return docker.Volume(
        f"{service}-{kind}",
        name=physical,
        labels=[docker.VolumeLabelArgs(label=key, value=value) for key, value in host.labels(service).items()],
        opts=ResourceOptions(
            parent=parent,
            protect=True,
            retain_on_delete=True,
            # After a lost state the volumes are still there: `make adopt` takes them over.
            import_=physical if physical in host.adopt else None,
        ),
    )
