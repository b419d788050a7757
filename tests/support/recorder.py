"""Runs the real `__main__.py` under Pulumi's mocks and keeps every registration as data: the plan.

What is recorded is the request itself, before any mock reads it: parent, provider, protection, dependencies, and each
secret where it is marked.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import os
import runpy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime import mocks as pulumi_mocks
from pulumi.runtime import rpc, set_all_config, settings
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.stack import run_in_stack

from tests.support.samples import PROJECT, ROOT, STACK, Sample

CONTAINER: Final = "docker:index/container:Container"
VOLUME: Final = "docker:index/volume:Volume"
NETWORK: Final = "docker:index/network:Network"
IMAGE: Final = "docker:index/remoteImage:RemoteImage"
COMMAND: Final = "command:local:Command"
PROVIDER: Final = "pulumi:providers:docker"
STACK_TYPE: Final = "pulumi:pulumi:Stack"

_SIGNATURE: Final = rpc._special_sig_key
_SECRET: Final = rpc._special_secret_sig


@dataclass(frozen=True)
class Secret:
    """A value that Pulumi knows to be secret. It does not show in messages."""

    value: Any

    def __repr__(self) -> str:
        return "<secret>"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One registration. `inputs` are as sent: camelCase keys, floats for numbers, `Secret` around what is marked."""

    typ: str
    name: str
    urn: str
    parent: str
    custom: bool
    inputs: dict[str, Any]
    provider: str = ""
    protect: bool = False
    retain_on_delete: bool = False
    delete_before_replace: bool = False
    import_id: str = ""
    depends_on: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.typ.rpartition(':')[2]} {self.name}"

    def clear(self, key: str, default: Any = None) -> Any:
        """An input without its outermost secret marker."""
        return unwrapped(self.inputs.get(key, default))

    @property
    def physical(self) -> str:
        """The name Docker knows it by."""
        return str(self.clear("name", ""))

    @property
    def labels(self) -> dict[str, str]:
        """Docker's labels."""
        return {entry["label"]: entry["value"] for entry in self.clear("labels", [])}

    @property
    def envs(self) -> dict[str, Any]:
        """A container's environment; secret values stay wrapped."""
        pairs = {}
        for entry in self.clear("envs", []):
            key, _, value = str(unwrapped(entry)).partition("=")
            pairs[key] = Secret(value) if isinstance(entry, Secret) or self.is_secret("envs") else value
        return pairs

    def is_secret(self, key: str) -> bool:
        """Whether the whole input is marked."""
        return isinstance(self.inputs.get(key), Secret)

    @property
    def networks(self) -> list[str]:
        """Physical names of the networks a container is on."""
        return [entry["name"] for entry in self.clear("networksAdvanced", [])]

    @property
    def runs_on(self) -> bool:
        """Whether a container is meant to run for as long as the platform does."""
        return bool(self.inputs.get("start", True)) and bool(self.inputs.get("mustRun", True))

    @property
    def is_seed(self) -> bool:
        """Whether a container is never started: it only carries files into a volume."""
        return self.inputs.get("start") is False

    @property
    def is_owner_job(self) -> bool:
        """Whether a container is the one-shot job that gives fresh volumes to the service's user."""
        return self.name.endswith("-owner") and not self.runs_on and not self.is_seed


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything one run of the program registered."""

    sample: Sample
    resources: tuple[Resource, ...]
    outputs: dict[str, Any]
    unscraped: dict[str, str]
    """Service -> why Prometheus does not read it, empty for those that it reads."""

    def of(self, typ: str) -> list[Resource]:
        """All resources of a type."""
        return [resource for resource in self.resources if resource.typ == typ]

    @property
    def containers(self) -> list[Resource]:
        """Every container, those that never run included."""
        return self.of(CONTAINER)

    @property
    def services(self) -> dict[str, Resource]:
        """Service name -> the container that runs it."""
        return {c.name.removesuffix("-container"): c for c in self.containers if c.runs_on}

    def one(self, name: str) -> Resource:
        """The resource of a logical name. Raises KeyError that lists what there is."""
        found = [resource for resource in self.resources if resource.name == name]
        if len(found) != 1:
            raise KeyError(f"{len(found)} resources named {name}; there are {sorted(r.name for r in self.resources)}")
        return found[0]

    def file(self, seed: str) -> str:
        """Text of the file that a seed carries."""
        (upload,) = self.one(f"{seed}-seed").clear("uploads")
        return str(unwrapped(upload["content"]))

    def changed(self, resource: str, change: Callable[[dict[str, Any]], object]) -> Plan:
        """A copy in which one resource's inputs were changed: for proving that a law can fail."""
        inputs = copy.deepcopy(self.one(resource).inputs)
        change(inputs)
        return self.altered(resource, inputs=inputs)

    def altered(self, resource: str, **fields: Any) -> Plan:
        """A copy in which one resource has other fields."""
        target = self.one(resource)
        return replace(self, resources=tuple(replace(r, **fields) if r is target else r for r in self.resources))


def unwrapped(value: Any) -> Any:
    """The value without its secret marker."""
    return value.value if isinstance(value, Secret) else value


def walk(value: Any, path: str = "", *, secret: bool = False) -> Iterator[tuple[str, str, bool]]:
    """Every text in a tree, keys included, as (path, text, whether a secret marker is around it)."""
    match value:
        case Secret():
            yield from walk(value.value, path, secret=True)
        case Mapping():
            for key, inner in value.items():
                yield f"{path}.{key}", str(key), secret
                yield from walk(inner, f"{path}.{key}", secret=secret)
        case list() | tuple():
            for index, inner in enumerate(value):
                yield from walk(inner, f"{path}[{index}]", secret=secret)
        case str():
            yield path, value, secret


def record(sample: Sample) -> Plan:
    """Runs the program for a sample. Raises what the program raises."""
    monitor = _Monitor()
    namespace = _run(sample, monitor)
    return Plan(
        sample=sample,
        resources=tuple(sorted(monitor.recorded, key=lambda resource: resource.urn)),
        outputs=monitor.outputs,
        unscraped={service.name: service.args.metrics.none_because for service in namespace["services"]},
    )


def refusal(sample: Sample) -> tuple[BaseException, list[Resource]]:
    """What the program raises for a sample that it refuses, and what it had registered by then."""
    monitor = _Monitor()
    try:
        _run(sample, monitor)
    except BaseException as error:  # noqa: BLE001 (whatever it is, the test looks at it)
        return error, monitor.recorded
    raise AssertionError("the program takes it")


def _run(sample: Sample, monitor: _Monitor) -> dict[str, Any]:
    """The program's global names after it has run."""
    namespace: dict[str, Any] = {}
    loop = asyncio.new_event_loop()
    with _environment(sample):
        asyncio.set_event_loop(loop)
        try:
            set_all_config(sample.config, sample.secret_keys)
            pulumi_mocks.set_mocks(monitor.mocks, project=PROJECT, stack=STACK, preview=False, monitor=monitor)
            settings.SETTINGS.outputs.clear()
            settings.set_root_resource(None)  # type: ignore[arg-type]  # the program gets a root of its own, whose outputs are still open
            program = str(ROOT / "__main__.py")
            loop.run_until_complete(run_in_stack(lambda: namespace.update(runpy.run_path(program))))
        finally:
            asyncio.set_event_loop(None)
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
    return namespace


class _NoAnswers(pulumi_mocks.Mocks):
    """Nothing is asked of a provider: a plan must not depend on the machine that makes it."""

    def new_resource(self, args: pulumi_mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        raise AssertionError(f"the program reads {args.typ} {args.name} from the host")

    def call(self, args: pulumi_mocks.MockCallArgs) -> tuple[dict[str, Any], None]:
        raise AssertionError(f"the program asks the provider for {args.token}")


class _Monitor(pulumi_mocks.MockMonitor):
    """The engine's and the provider's part: keeps each request; every input comes back as an output."""

    def __init__(self) -> None:
        super().__init__(_NoAnswers())
        self.recorded: list[Resource] = []
        self.outputs: dict[str, Any] = {}

    def RegisterResource(self, request: Any) -> Any:
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type == STACK_TYPE:
            return resource_pb2.RegisterResourceResponse(urn=urn)
        self.recorded.append(
            Resource(
                typ=request.type,
                name=request.name,
                urn=urn,
                parent=request.parent,
                custom=request.custom,
                inputs=_marked(json_format.MessageToDict(request.object)),
                provider=request.provider,
                protect=request.protect,
                retain_on_delete=request.retainOnDelete,
                delete_before_replace=request.deleteBeforeReplace,
                import_id=request.importId,
                depends_on=tuple(sorted(request.dependencies)),
            )
        )
        made = struct_pb2.Struct()
        made.CopyFrom(request.object)
        if request.type == IMAGE:
            made["imageId"] = image_id(request.object["name"])
        if request.type == COMMAND:
            made["stdout"] = "[]"
        return resource_pb2.RegisterResourceResponse(urn=urn, id=f"{request.name}-id", object=made)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        if f"::{STACK_TYPE}::" in request.urn:
            self.outputs = _marked(json_format.MessageToDict(request.outputs))
        return empty_pb2.Empty()


def image_id(reference: str) -> str:
    """What stands in for the id that a daemon would give an image."""
    return "sha256:" + hashlib.sha256(reference.encode()).hexdigest()


def _marked(value: Any) -> Any:
    """Protobuf's plain form with Pulumi's secret markers turned into `Secret`."""
    if isinstance(value, dict):
        if value.get(_SIGNATURE) == _SECRET:
            return Secret(_marked(value["value"]))
        return {key: _marked(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_marked(inner) for inner in value]
    return value


@contextmanager
def _environment(sample: Sample) -> Iterator[None]:
    """Nothing of the person's shell reaches the program; it is put back afterwards."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("PULUMI_", "PRIVATE_LLM_", "DOCKER_")):
            del os.environ[name]
    os.environ["PRIVATE_LLM_LOCK"] = str(sample.lock)
    os.environ.update(sample.environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
