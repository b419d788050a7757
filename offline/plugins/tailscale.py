"""The `tailscale` plugin 0.29.2 where only packages are reachable: TailnetKey and Acl, against Tailscale's real API."""

from __future__ import annotations

import os
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from offline.plugins import tailscale_rules as rules
from offline.plugins import values
from offline.plugins.protocol import load
from offline.plugins.tailscale_api import Api, ApiError, SettingError, connect
from offline.plugins.wire import SERVICE, Metadata, Method, Refusal, serve

provider, plugin = load("provider_pb2", "plugin_pb2")
VERSION = "0.29.2"
IMPORT_ID = "acl"
HUJSON = "application/hujson"
GONE: Mapping[str, Any] = {"invalid": True}
FOREIGN = (
    "the tailnet has a policy that somebody wrote, and this resource would overwrite all of it: import it first "
    "(`pulumi import tailscale:index/acl:Acl <name> acl`), or set overwriteExistingContent to true"
)


class Tailscale:
    """The provider: one method per call of the protocol."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.environ = environ
        self.inputs: Mapping[str, Any] = {}

    def find(self, name: str) -> Method | None:
        """The method table."""
        table: dict[str, tuple[Any, Callable[[Any], Any]]] = {
            "CheckConfig": (provider.CheckRequest, self.check_config),
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
            return lambda request, metadata: b""
        if name not in table:
            return None
        kind, method = table[name]

        def call(request: bytes, metadata: Metadata) -> bytes:
            try:
                answer = method(kind.FromString(request))
            except ApiError as error:
                raise Refusal(grpc.StatusCode.UNKNOWN, f"Tailscale's API: {error}") from None
            return b"" if answer is None else answer.SerializeToString()

        return call

    def check_config(self, request: Any) -> Any:
        """`CheckConfig`: refuse settings of the official plugin only, and a missing key; unknown ones come later."""
        response = provider.CheckResponse(inputs=request.news)
        inputs = values.properties(request.news)
        try:
            connect(
                {name: "tskey-" if value is values.UNKNOWN else value for name, value in inputs.items()}, self.environ
            )
        except SettingError as error:
            if inputs.get(error.name) is not values.UNKNOWN:
                response.failures.add(property=error.name, reason=str(error))
        return response

    def configure(self, request: Any) -> Any:
        """`Configure`: secrets are welcome (they stay secret in the state), previews are answered."""
        self.inputs = values.properties(request.args)
        return provider.ConfigureResponse(acceptSecrets=True, supportsPreview=True, acceptResources=True)

    @property
    def api(self) -> Api:
        """The API of the settings; wrong ones are refused at the first call, not in a preview that calls nothing."""
        try:
            return connect(self.inputs, self.environ)
        except SettingError as error:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None

    def check(self, request: Any) -> Any:
        """`Check`: refuse what the official plugin would not know, or what this one cannot serve."""
        response = provider.CheckResponse(inputs=request.news)
        inputs = values.properties(request.news)
        for name, reason in rules.problems(type_of(request.urn), inputs, values.holds_unknown):
            response.failures.add(property=name, reason=reason)
        return response

    def diff(self, request: Any) -> Any:
        """`Diff`: what differs between the recorded state and the inputs; an invalid key that is to be made anew."""
        kind, state, inputs = served(request.urn), values.properties(request.olds), values.properties(request.news)
        old, new = rules.wanted(kind, state, state), rules.wanted(kind, inputs, state)
        changed = [name for name in values.changed(old, new) if name not in request.ignoreChanges]
        if state.get("invalid") and rules.recreates(new):
            changed.append("invalid")
        response = provider.DiffResponse(diffs=changed, replaces=rules.replaces(kind, changed), hasDetailedDiff=True)
        response.changes = provider.DiffResponse.DIFF_SOME if changed else provider.DiffResponse.DIFF_NONE
        for name in changed:
            shown = response.detailedDiff[name]
            how = "ADD" if name not in state else "DELETE" if name not in {*new, "invalid"} else "UPDATE"
            shown.kind = getattr(provider.PropertyDiff, how + ("_REPLACE" if name in response.replaces else ""))
            shown.inputDiff = name != "invalid" and name in values.properties(request.old_inputs)
        return response

    def create(self, request: Any) -> Any:
        """`Create`: a new key, or the policy where the tailnet still has Tailscale's own."""
        kind, inputs = served(request.urn), values.properties(request.properties)
        if kind == rules.ACL:
            if not request.preview:
                self.put_policy(inputs["acl"], protect=not inputs.get("overwriteExistingContent"))
            return provider.CreateResponse(
                id="" if request.preview else str(uuid.uuid4()), properties=request.properties
            )
        if request.preview:
            unknown = dict.fromkeys(
                ("key", "createdAt", "expiresAt", "expiry", "invalid", "userId"), values.UNKNOWN_TEXT
            )
            return provider.CreateResponse(properties=told(request.properties, {**unknown, **rules.DEFAULTS, **inputs}))
        made = self.api.json("POST", "keys", rules.key_request(inputs))
        state = told(request.properties, {**rules.key_state(made), **rules.DEFAULTS, **inputs, "key": made["key"]})
        return provider.CreateResponse(id=made["id"], properties=state)

    def update(self, request: Any) -> Any:
        """`Update`: the policy; of a key, only what becomes of it when it is invalid."""
        if served(request.urn) == rules.ACL:
            if not request.preview:
                self.put_policy(values.properties(request.news)["acl"], protect=False)
            return provider.UpdateResponse(properties=request.news)
        state = type(request.olds)()
        state.CopyFrom(request.olds)
        if "recreateIfInvalid" in state.fields:
            del state.fields["recreateIfInvalid"]
        state.MergeFrom(request.news)
        return provider.UpdateResponse(properties=state if request.preview else told(state, self.key(request.id)))

    def read(self, request: Any) -> Any:
        """`Read`: what Tailscale says now, for refresh and import; a key that is gone is an invalid key."""
        known = bool(request.properties.fields)
        inputs, kind = request.inputs, served(request.urn)
        if kind == rules.ACL:
            if not known and request.id != IMPORT_ID:
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"a policy is imported by the id {IMPORT_ID}")
            policy = self.api.call("GET", "acl", Accept=HUJSON)
            recorded = values.properties(request.properties).get("acl")
            now = {"acl": recorded if rules.comparable(recorded) == rules.comparable(policy) else policy}
            if rules.comparable(values.properties(inputs).get("acl")) != rules.comparable(policy):
                inputs = told(inputs, now)
            return provider.ReadResponse(id=request.id, properties=told(request.properties, now), inputs=inputs)
        found = self.key(request.id)
        if not known and found == GONE:
            return provider.ReadResponse()
        if not known:
            inputs = told(inputs, {name: value for name, value in found.items() if name in rules.FIELDS[kind]})
        return provider.ReadResponse(id=request.id, properties=told(request.properties, found), inputs=inputs)

    def delete(self, request: Any) -> None:
        """`Delete`: revoke a key; a policy stays unless it is to be reset, since a tailnet always has one."""
        if served(request.urn) == rules.ACL:
            if values.properties(request.properties).get("resetAclOnDestroy"):
                self.put_policy("", protect=False)
            return
        try:
            self.api.call("DELETE", key_path(request.id))
        except ApiError as error:
            if error.status != 404:
                raise

    def invoke(self, request: Any) -> Any:
        """`Invoke`: functions are the official plugin's."""
        raise Refusal(grpc.StatusCode.UNIMPLEMENTED, rules.only(request.tok))

    def put_policy(self, policy: str, *, protect: bool) -> None:
        """Write the whole policy file; protected, only over Tailscale's own first one."""
        match = {"If_Match": '"ts-default"'} if protect else {}
        try:
            self.api.call("POST", "acl", policy, Content_Type=HUJSON, **match)
        except ApiError as error:
            if error.status != 412:
                raise
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, FOREIGN) from None

    def key(self, number: str) -> dict[str, Any]:
        """What Tailscale tells of a key; only that it is invalid when it is gone."""
        try:
            found = self.api.json("GET", key_path(number))
        except ApiError as error:
            if error.status != 404:
                raise
            return dict(GONE)
        if found.get("keyType") != "auth":
            raise Refusal(
                grpc.StatusCode.INVALID_ARGUMENT, f"the key {number} is no auth key: TailnetKey is for those only"
            )
        return rules.key_state(found)


def type_of(urn: str) -> str:
    """The type of the resource that a URN names."""
    return urn.split("::")[2].rsplit("$", 1)[-1]


def served(urn: str) -> str:
    """The same, for the two that are served."""
    kind = type_of(urn)
    if kind not in rules.FIELDS:
        raise Refusal(grpc.StatusCode.UNIMPLEMENTED, rules.only(kind))
    return kind


def key_path(number: str) -> str:
    """Where a key is, below the tailnet."""
    return f"keys/{urllib.parse.quote(number, safe='')}"


def told(state: Any, properties: Mapping[str, Any]) -> Any:
    """A copy of a state with these properties; what is the same stays as it is, what was secret stays secret."""
    made = type(state)()
    made.CopyFrom(state)
    for name, value in properties.items():
        old = made.fields.get(name)
        if old is not None and rules.same(values.plain(old), value):
            continue
        secret = name == "key" or (old is not None and values.has_secret(old))
        fresh = type(state)()
        fresh.update({name: {values.MARK: values.IS_SECRET, "value": value} if secret else value})
        made.fields[name].CopyFrom(fresh.fields[name])
    return made


def main() -> None:
    """Serve until the engine is gone."""
    serve({SERVICE: Tailscale().find}, lambda: None)


if __name__ == "__main__":
    main()
