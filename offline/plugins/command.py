"""The `command` plugin 1.2.1 where only packages are reachable: local commands, with real processes."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from typing import Any

import grpc

from offline.plugins import command_rules as rules
from offline.plugins import values
from offline.plugins.command_runs import CommandFailed, Runner
from offline.plugins.protocol import load
from offline.plugins.wire import ENGINE, OPTIONS, SERVICE, Metadata, Method, Refusal, engine_address, serve

provider, plugin, engine = load("provider_pb2", "plugin_pb2", "engine_pb2")
VERSION = "1.2.1"
SHORTEST_MASKED = 4


class Command:
    """The provider: one method per call of the protocol."""

    def __init__(self, address: str) -> None:
        self.engine = grpc.insecure_channel(address, options=OPTIONS) if address else None
        self.runner = Runner()

    def find(self, name: str) -> Method | None:
        """The method table."""
        table: dict[str, tuple[Any, Callable[[Any], Any]]] = {
            "CheckConfig": (provider.CheckRequest, lambda request: provider.CheckResponse(inputs=request.news)),
            "DiffConfig": (provider.DiffRequest, lambda request: provider.DiffResponse()),
            "Configure": (provider.ConfigureRequest, self.configure),
            "Check": (provider.CheckRequest, self.check),
            "Diff": (provider.DiffRequest, self.diff),
            "Create": (provider.CreateRequest, self.create),
            "Update": (provider.UpdateRequest, self.update),
            "Read": (provider.ReadRequest, self.read),
            "Delete": (provider.DeleteRequest, self.delete),
            "Invoke": (provider.InvokeRequest, self.invoke),
        }
        if name == "GetPluginInfo":
            return lambda request, metadata: plugin.PluginInfo(version=VERSION).SerializeToString()
        if name == "Cancel":
            return self.cancel
        if name not in table:
            return None
        kind, method = table[name]

        def call(request: bytes, metadata: Metadata) -> bytes:
            answer = method(kind.FromString(request))
            return b"" if answer is None else answer.SerializeToString()

        return call

    def configure(self, request: Any) -> Any:
        """`Configure`: secrets are welcome (they stay secret in the state), previews are answered."""
        return provider.ConfigureResponse(acceptSecrets=True, supportsPreview=True, acceptResources=True)

    def cancel(self, request: bytes, metadata: Metadata) -> bytes:
        """`Cancel`: Ctrl-C, or the end of an update; running commands end with their children."""
        self.runner.cancel()
        return b""

    def check(self, request: Any) -> Any:
        """`Check`: refuse what the official plugin would not know, or what this one cannot serve."""
        inputs = values.properties(request.news)
        response = provider.CheckResponse(inputs=request.news)
        if "addPreviousOutputInEnv" not in inputs:
            response.inputs.fields["addPreviousOutputInEnv"].bool_value = True
        kind = request.urn.split("::")[2].rsplit("$", 1)[-1]
        for name, reason in rules.problems(kind, inputs, values.holds_unknown):
            response.failures.add(property=name, reason=reason)
        return response

    def diff(self, request: Any) -> Any:
        """`Diff`: what differs between the inputs of the last run and the new ones."""
        new = values.properties(request.news)
        before = request.old_inputs if request.HasField("old_inputs") else request.olds
        old = {key: value for key, value in values.properties(before).items() if key in rules.FIELDS}
        changed = [key for key in values.changed(old, new) if key not in request.ignoreChanges]
        response = provider.DiffResponse(diffs=changed, replaces=rules.replaces(changed), hasDetailedDiff=True)
        response.changes = provider.DiffResponse.DIFF_SOME if changed else provider.DiffResponse.DIFF_NONE
        kinds = provider.PropertyDiff
        for key in changed:
            name = "ADD" if key not in old else "DELETE" if key not in new else "UPDATE"
            name += "_REPLACE" if key in response.replaces else ""
            response.detailedDiff[key].kind = getattr(kinds, name)
            response.detailedDiff[key].inputDiff = True
        return response

    def create(self, request: Any) -> Any:
        """`Create`: run `create`."""
        name = request.name or request.urn.split("::")[-1]
        command = values.properties(request.properties).get("create")
        state = self.ran(request, request.properties, command, ("", ""), request.preview)
        return provider.CreateResponse(id="" if request.preview else name + secrets.token_hex(4), properties=state)

    def update(self, request: Any) -> Any:
        """`Update`: run `update`, or `create` again when there is none, with the last output in the environment."""
        command = rules.command_for_update(values.properties(request.news))
        state = self.ran(request, request.news, command, outputs(request.olds), request.preview)
        return provider.UpdateResponse(properties=state)

    def read(self, request: Any) -> Any:
        """`Read`: a command has nothing to read; what is recorded stands."""
        return provider.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    def delete(self, request: Any) -> None:
        """`Delete`: run the recorded `delete`."""
        command = values.properties(request.properties).get("delete")
        if command:
            self.ran(request, request.properties, command, outputs(request.properties), False)

    def invoke(self, request: Any) -> Any:
        """`Invoke`: functions are the official plugin's."""
        raise Refusal(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{request.tok} needs the official command plugin; this stand-in serves {rules.LOCAL} only",
        )

    def ran(self, request: Any, inputs: Any, command: str | None, previous: tuple[str, str], preview: bool) -> Any:
        """The state after running `command` with `inputs`: the inputs and what was printed."""
        secret = any(map(values.has_secret, inputs.fields.values()))
        state = type(inputs)()
        state.CopyFrom(inputs)
        printed: tuple[str | None, str | None] = previous
        if preview:
            printed = (None, None)
        elif command is not None:
            hidden = set().union(*map(values.secret_texts, inputs.fields.values())) if secret else set()
            log = self.logger(request.urn, hidden)
            try:
                printed = self.runner.run(command, values.properties(inputs), previous, log)
            except CommandFailed as failure:
                raise Refusal(grpc.StatusCode.UNKNOWN, masked(str(failure), hidden)) from None
        for key, text in zip(("stdout", "stderr"), printed, strict=True):
            values.put(state.fields, key, text, secret=secret)
        return state

    def logger(self, urn: str, hidden: set[str]) -> Callable[[str], None]:
        """Shows a line beside the resource while its command runs, without secrets."""

        def log(line: str) -> None:
            if self.engine is None or not line.strip():
                return
            message = engine.LogRequest(severity=engine.INFO, message=masked(line, hidden), urn=urn, ephemeral=True)
            try:
                self.engine.unary_unary(f"/{ENGINE}/Log")(message.SerializeToString(), timeout=5)
            except grpc.RpcError:
                return  # a lost line of a log must not fail the command

        return log


def outputs(state: Any) -> tuple[str, str]:
    """(stdout, stderr) of a recorded state."""
    found = values.properties(state)
    return str(found.get("stdout", "")), str(found.get("stderr", ""))


def masked(text: str, hidden: set[str]) -> str:
    """`text` with every secret of some length replaced."""
    for secret in sorted(hidden, key=len, reverse=True):
        if len(secret) >= SHORTEST_MASKED:
            text = text.replace(secret, "[secret]")
    return text


def main() -> None:
    """Serve until the engine is gone."""
    command = Command(engine_address(sys.argv[1:]))
    serve({SERVICE: command.find}, command.runner.kill)


if __name__ == "__main__":
    main()
