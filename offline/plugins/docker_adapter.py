"""The `docker` plugin 5.2.0 from packages: Pulumi's Terraform bridge and the real Terraform provider.

This process stands between the engine and the bridge, renames what the two sides call differently (`docker_names`),
and fills in what the official plugin does and the bridge does not: the plugin's version, the default host, replacing
containers by deleting first, and recording a container that was made but did not start.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf import any_pb2

from offline.plugins import docker_leftovers as leftovers
from offline.plugins import docker_names as names
from offline.plugins.child import Child
from offline.plugins.protocol import load
from offline.plugins.wire import ENGINE, OPTIONS, SERVICE, Metadata, Method, Refusal, serve

provider, plugin, status, engine = load("provider_pb2", "plugin_pb2", "status_pb2", "engine_pb2")

REQUESTS = {
    "Check": provider.CheckRequest,
    "Diff": provider.DiffRequest,
    "Create": provider.CreateRequest,
    "Read": provider.ReadRequest,
    "Update": provider.UpdateRequest,
    "Delete": provider.DeleteRequest,
    "CheckConfig": provider.CheckRequest,
    "DiffConfig": provider.DiffRequest,
}
RESPONSES = {
    "Check": provider.CheckResponse,
    "Diff": provider.DiffResponse,
    "Create": provider.CreateResponse,
    "Read": provider.ReadResponse,
    "Update": provider.UpdateResponse,
    "CheckConfig": provider.CheckResponse,
    "DiffConfig": provider.DiffResponse,
}
STRUCTS = ("news", "olds", "properties", "inputs", "old_inputs")
STATES = ("olds", "properties")  # these hold outputs when the call names an id, inputs otherwise
DETAILS = "grpc-status-details-bin"


class Adapter:
    """One running bridge and the calls that go through it."""

    def __init__(self, bridge: Child, terraform_provider: str) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{bridge.port()}", options=OPTIONS)
        arguments = provider.ParameterizeRequest.ParametersArgs(args=[terraform_provider])
        request = provider.ParameterizeRequest(args=arguments).SerializeToString()
        self.upstream("Parameterize", request, (), wait=True)

    def upstream(self, method: str, request: bytes, metadata: Metadata, *, wait: bool = False) -> bytes:
        """One call of the bridge. Raises Refusal with the bridge's own status, message and details."""
        call = self.channel.unary_unary(f"/{SERVICE}/{method}")
        try:
            answer: bytes = call(request, metadata=tuple(metadata), wait_for_ready=wait)
            return answer
        except grpc.RpcError as error:
            details = [(key, value) for key, value in error.trailing_metadata() or () if key.endswith("-bin")]
            raise Refusal(error.code(), error.details() or "", details) from None

    def find(self, method: str) -> Method | None:
        """The method table: what needs no care goes straight to the bridge. Streaming calls are not served."""
        if method == "GetPluginInfo":
            return lambda request, metadata: plugin.PluginInfo(version=names.OFFICIAL_VERSION).SerializeToString()
        if method in ("List", "Construct", "Call"):
            return None
        special = {
            "Configure": self.configure,
            "Invoke": self.invoke,
            "Create": self.create,
            "Read": self.read,
            "Cancel": self.cancel,
        }
        if method in special:
            return special[method]
        if method in REQUESTS:
            return lambda request, metadata: self.translated(method, REQUESTS[method].FromString(request), metadata)
        return lambda request, metadata: self.upstream(method, request, metadata)

    def translated(self, method: str, request: Any, metadata: Metadata) -> bytes:
        """A call about one resource or about the provider itself, renamed on the way in and on the way out."""
        kind = names.type_of(request.urn)
        olds = dict(request.olds.fields) if method == "Diff" else {}
        try:
            answer = self.upstream(method, for_bridge(kind, request).SerializeToString(), metadata)
        except Refusal as refusal:
            raise with_official_details(kind, refusal) from None
        if method not in RESPONSES:
            return answer
        response = RESPONSES[method].FromString(answer)
        for_engine(kind, response)
        if method == "CheckConfig" and "host" not in response.inputs.fields:
            response.inputs.fields["host"].string_value = names.DEFAULT_HOST
        if method == "Diff":
            finish_diff(kind, response, olds)
        serialized: bytes = response.SerializeToString()
        return serialized

    def configure(self, request: bytes, metadata: Metadata) -> bytes:
        """`Configure`: the provider's own properties, once as structured values and once as variables."""
        message = provider.ConfigureRequest.FromString(request)
        renames = names.to_bridge(f"pulumi:providers:{names.PACKAGE}")
        names.rename_keys(message.args.fields, renames)
        variables = names.rename_variables(dict(message.variables), renames)
        message.variables.clear()
        message.variables.update(variables)
        return self.upstream("Configure", message.SerializeToString(), metadata)

    def cancel(self, request: bytes, metadata: Metadata) -> bytes:
        """`Cancel`: ends what runs; always acknowledged, or the engine calls the plugin's end premature."""
        with contextlib.suppress(Refusal):
            self.upstream("Cancel", request, metadata)
        return b""

    def invoke(self, request: bytes, metadata: Metadata) -> bytes:
        """`Invoke`: data sources; one has another name."""
        message = provider.InvokeRequest.FromString(request)
        message.tok = names.FUNCTIONS.get(message.tok, message.tok)
        return self.upstream("Invoke", message.SerializeToString(), metadata)

    def create(self, request: bytes, metadata: Metadata) -> bytes:
        """`Create`, with care for a container that comes into being although the call fails."""
        message = provider.CreateRequest.FromString(request)
        original = provider.CreateRequest.FromString(request)
        real_container = names.type_of(original.urn) == names.CONTAINER and not original.preview
        if real_container:
            self.clear_leftover(original, metadata)
        try:
            return self.translated("Create", message, metadata)
        except Refusal as refusal:
            if names.type_of(original.urn) == names.NETWORK and leftovers.is_network_conflict(refusal.message):
                return self.adopt_network(original, refusal, metadata)
            if not real_container:
                raise
            raise self.recorded(original, refusal, metadata) from None

    def read(self, request: bytes, metadata: Metadata) -> bytes:
        """`Read`; a container that never finished its creation stays marked so, whatever Docker says of it now."""
        message = provider.ReadRequest.FromString(request)
        unfinished = bool(message.properties.fields) and leftovers.is_unfinished(message.properties.fields)
        kind = names.type_of(message.urn)
        answer = self.translated("Read", message, metadata)
        if kind == names.CONTAINER and unfinished:
            response = provider.ReadResponse.FromString(answer)
            leftovers.mark_unfinished(response.properties.fields)
            answer = response.SerializeToString()
        return answer

    def container_named(self, name: str, metadata: Metadata) -> leftovers.Found | None:
        """The container that has this name on the host now, running or not."""
        request = provider.InvokeRequest(tok="docker:index/getContainers:getContainers")
        answer = provider.InvokeResponse.FromString(self.upstream("Invoke", request.SerializeToString(), metadata))
        return leftovers.named(name, getattr(answer, "return"))

    def clear_leftover(self, request: Any, metadata: Metadata) -> None:
        """Remove the container that holds our name if it is ours: left by an `up` that was killed in the middle.

        Official behaviour: the name conflict is reported and stays until somebody removes the container by hand.
        Ours means that it carries the same stack and service labels as the container that is to be made; anybody
        else's stays, and the creation ends in Docker's own message about the conflict.
        """
        name, labels = leftovers.name_of(request.properties), leftovers.labels_of(request.properties)
        if not name or not leftovers.same_owner(labels, labels):
            return
        found = self.container_named(name, metadata)
        if found is None or not leftovers.same_owner(labels, found.labels):
            return
        read = provider.ReadRequest(id=found.id, urn=request.urn, name=request.name, type=request.type)
        current = provider.ReadResponse.FromString(self.translated("Read", read, metadata))
        delete = provider.DeleteRequest(
            id=found.id, urn=request.urn, name=request.name, type=request.type, properties=current.properties
        )
        self.translated("Delete", delete, metadata)

    def adopt_network(self, request: Any, refusal: Refusal, metadata: Metadata) -> bytes:
        """Take over the network that an interrupted `up` left: it has our name and all our labels.

        Official behaviour: the conflict is reported until somebody removes the network by hand. Raises the refusal
        when the network is somebody else's.
        """
        labels = leftovers.labels_of(request.properties)
        lookup = provider.InvokeRequest(tok="docker:index/getNetwork:getNetwork")
        lookup.args.update({"name": leftovers.name_of(request.properties)})
        answer = provider.InvokeResponse.FromString(self.upstream("Invoke", lookup.SerializeToString(), metadata))
        found = getattr(answer, "return").fields
        if not labels or "id" not in found:
            raise refusal
        read = provider.ReadRequest(id=found["id"].string_value, urn=request.urn, name=request.name, type=request.type)
        current = provider.ReadResponse.FromString(self.translated("Read", read, metadata))
        if not labels.items() <= leftovers.labels_of(current.properties).items():
            raise refusal
        made: bytes = provider.CreateResponse(id=current.id, properties=current.properties).SerializeToString()
        return made

    def recorded(self, request: Any, refusal: Refusal, metadata: Metadata) -> Refusal:
        """The refusal of a failed `Create`, with the container that it left attached so that the engine records it.

        Official behaviour: recorded as well, but the next update finds nothing to change and leaves the container
        dead. Here the record is marked unfinished, so the next update replaces the container.
        """
        name = leftovers.name_of(request.properties)
        try:
            found = self.container_named(name, metadata) if name else None
            labels = leftovers.labels_of(request.properties)
            if found is None or not leftovers.made_by_this_call(refusal.message, labels, found.labels):
                return refusal
            read = provider.ReadRequest(
                id=found.id,
                urn=request.urn,
                name=request.name,
                type=request.type,
                properties=request.properties,
                inputs=request.properties,
            )
            # Without it the inputs would count as a state of the oldest schema and go through its upgrades.
            read.properties.fields[leftovers.META].string_value = leftovers.CURRENT_SCHEMA
            current = provider.ReadResponse.FromString(self.translated("Read", read, metadata))
            message = refusal.message + self.last_words(found.id, metadata)
        except Refusal:
            return refusal
        leftovers.mark_unfinished(current.properties.fields)
        detail = provider.ErrorResourceInitFailed(
            id=found.id, properties=current.properties, inputs=request.properties, reasons=[message]
        )
        return Refusal(grpc.StatusCode.UNKNOWN, message, [(DETAILS, as_details(message, detail))])

    def last_words(self, container: str, metadata: Metadata) -> str:
        """What the container printed last, as lines to add to an error; empty when it said nothing."""
        request = provider.InvokeRequest(tok="docker:index/getLogs:getLogs")
        request.args.update(
            {"name": container, "tail": "10", "showStdout": True, "showStderr": True, "logsListStringEnabled": True}
        )
        try:
            answer = provider.InvokeResponse.FromString(self.upstream("Invoke", request.SerializeToString(), metadata))
        except Refusal:
            return ""
        return leftovers.log_lines(getattr(answer, "return"))


def for_bridge(kind: str, request: Any) -> Any:
    """Rename a request for the bridge, in place."""
    for field in STRUCTS:
        if field in request.DESCRIPTOR.fields_by_name and request.HasField(field):
            state = field in STATES and bool(getattr(request, "id", ""))
            fields = getattr(request, field).fields
            if state and fields and "id" not in fields and kind in names.SECOND_IDS:
                fields["id"].string_value = request.id
            rename_properties(fields, names.to_bridge(kind, state=state))
    if "ignoreChanges" in request.DESCRIPTOR.fields_by_name:
        paths = names.rename_paths(request.ignoreChanges, names.to_bridge(kind))
        del request.ignoreChanges[:]
        request.ignoreChanges.extend(paths)
    request.urn = names.bridge_urn(request.urn)
    if "type" in request.DESCRIPTOR.fields_by_name:
        request.type = names.TYPES.get(request.type, request.type)
    return request


def rename_properties(fields: Any, renames: Mapping[str, str]) -> None:
    """Rename the properties of one resource and what its raw-state delta says of them, in place."""
    names.rename_delta(fields, renames)
    names.rename_keys(fields, renames)


def for_engine(kind: str, response: Any) -> None:
    """Rename an answer for the engine, in place."""
    renames = names.to_official(kind)
    for field in STRUCTS:
        if field in response.DESCRIPTOR.fields_by_name and response.HasField(field):
            rename_properties(getattr(response, field).fields, renames)
    for failure in getattr(response, "failures", ()):
        failure.property = names.rename_path(failure.property, renames)
    if isinstance(response, provider.DiffResponse):
        for field in ("replaces", "diffs", "stables"):
            paths = names.rename_paths(getattr(response, field), renames)
            del getattr(response, field)[:]
            getattr(response, field).extend(paths)
        for path in list(response.detailedDiff):
            new = names.rename_path(path, renames)
            if new != path:
                response.detailedDiff[new].CopyFrom(response.detailedDiff[path])
                del response.detailedDiff[path]


def finish_diff(kind: str, response: Any, olds: dict[str, Any]) -> None:
    """What the official plugin answers to `Diff` beyond the bridge: delete first; and replace what never finished."""
    if kind == names.CONTAINER and leftovers.is_unfinished(olds):
        response.changes = provider.DiffResponse.DIFF_SOME
        response.diffs.append("id")
        response.replaces.append("id")
        response.hasDetailedDiff = True
        response.detailedDiff["id"].kind = provider.PropertyDiff.UPDATE_REPLACE
    if kind in names.DELETE_BEFORE_REPLACE:
        response.deleteBeforeReplace = True


def with_official_details(kind: str, refusal: Refusal) -> Refusal:
    """A refusal whose attached half-made resource, if any, has the official property names."""
    details = []
    for key, value in refusal.details:
        if key == DETAILS and isinstance(value, bytes):
            message = status.Status.FromString(value)
            for packed in message.details:
                failed = provider.ErrorResourceInitFailed()
                if packed.Unpack(failed):
                    for fields in (failed.properties.fields, failed.inputs.fields):
                        rename_properties(fields, names.to_official(kind))
                    packed.Pack(failed)
            details.append((key, message.SerializeToString()))
        else:
            details.append((key, value))
    return Refusal(refusal.code, refusal.message, details)


def as_details(message: str, detail: Any) -> bytes:
    """The `google.rpc.Status` that carries a Pulumi error detail."""
    packed = any_pb2.Any()
    packed.Pack(detail)
    serialized: bytes = status.Status(
        code=grpc.StatusCode.UNKNOWN.value[0], message=message, details=[packed]
    ).SerializeToString()
    return serialized


class Relay:
    """The engine as the bridge sees it: what it logs arrives under the official names, and errors not twice."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, options=OPTIONS)

    def find(self, method: str) -> Method | None:
        """The method table of the engine's service."""
        return lambda request, metadata: self.forward(method, request, metadata)

    def forward(self, method: str, request: bytes, metadata: Metadata) -> bytes:
        """One call of the engine by the bridge."""
        if method == "Log":
            message = engine.LogRequest.FromString(request)
            if message.severity == engine.ERROR:  # the bridge returns the same words as the call's error
                return b""
            message.urn = names.official_urn(message.urn)
            request = message.SerializeToString()
        try:
            answer: bytes = self.channel.unary_unary(f"/{ENGINE}/{method}")(request, metadata=tuple(metadata))
        except grpc.RpcError as error:
            raise Refusal(error.code(), error.details() or "") from None
        return answer


def main(bridge: Child, terraform_provider: str, engine_address: str, reserved: socket.socket) -> None:
    """Serve the engine, and the bridge on the `reserved` port, until the engine is gone."""
    tables = {ENGINE: Relay(engine_address).find}
    serve(tables, bridge.stop, reserved, lambda: tables.update({SERVICE: Adapter(bridge, terraform_provider).find}))
