"""Ways to break a plan, each with the law that must notice. Every law has at least one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from tests.support.recorder import Plan, Secret, unwrapped
from tests.support.samples import OVERLAP

Change = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Mutation:
    """A broken plan: what was done to it, and the law that says so."""

    law: str
    what: str
    apply: Callable[[Plan], Plan]
    sample: str = "full"


def _sets(resource: str, **inputs: Any) -> Callable[[Plan], Plan]:
    return lambda plan: plan.changed(resource, lambda there: there.update(inputs))


def _drops(resource: str, key: str) -> Callable[[Plan], Plan]:
    return lambda plan: plan.changed(resource, lambda there: there.pop(key))


def _does(resource: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Plan], Plan]:
    return lambda plan: plan.changed(resource, change)


def _is(resource: str, **fields: Any) -> Callable[[Plan], Plan]:
    return lambda plan: plan.altered(resource, **fields)


def _says(output: str, value: Any) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, outputs=plan.outputs | {output: value})


def _without(resource: str) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, resources=tuple(r for r in plan.resources if r.name != resource))


def _joins(resource: str, network: str) -> Callable[[Plan], Plan]:
    entry = {"name": f"private-llm-dev-{network}", "aliases": [resource.removesuffix("-container")]}
    return _does(resource, lambda there: there["networksAdvanced"].append(entry))


def _tells(resource: str, setting: Any) -> Callable[[Plan], Plan]:
    return _does(resource, lambda there: there["envs"].append(setting))


def _canary_in(resource: str, key: str, secret: str, wrap: Callable[[str], Any]) -> Callable[[Plan], Plan]:
    return lambda plan: plan.changed(resource, lambda there: there.update({key: wrap(plan.sample.canaries[secret])}))


def _file(seed: str, change: Callable[[str], str]) -> Callable[[Plan], Plan]:
    def edit(there: dict[str, Any]) -> None:
        (upload,) = unwrapped(there["uploads"])
        before = upload["content"]
        after = change(str(unwrapped(before)))
        upload["content"] = Secret(after) if isinstance(before, Secret) else after

    return lambda plan: plan.changed(f"{seed}-seed", edit)


def _upload(seed: str, **fields: Any) -> Callable[[Plan], Plan]:
    return _does(f"{seed}-seed", lambda there: unwrapped(there["uploads"])[0].update(fields))


def _port(**fields: Any) -> Callable[[Plan], Plan]:
    return _does("gateway-container", lambda there: there["ports"][0].update(fields))


def _check(resource: str, **fields: Any) -> Callable[[Plan], Plan]:
    return _does(resource, lambda there: there["healthcheck"].update(fields))


def _mount(resource: str, **fields: Any) -> Callable[[Plan], Plan]:
    return _does(resource, lambda there: there["volumes"][0].update(fields))


def _model_set(change: Callable[[dict[str, Any]], object]) -> Callable[[Plan], Plan]:
    def edit(there: dict[str, Any]) -> None:
        spec = json.loads(there["environment"]["MODEL_SET"])
        change(spec)
        there["environment"]["MODEL_SET"] = json.dumps(spec)

    return lambda plan: plan.changed("models-pull", edit)


def _files_output(change: Callable[[list[Any]], Any]) -> Callable[[Plan], Plan]:
    return lambda plan: _says("configFiles", change(unwrapped(plan.outputs["configFiles"])))(plan)


_EVERYWHERE: Final = {"internal": 9000.0, "external": 9000.0, "ip": "127.0.0.1"}

Servers = dict[str, dict[str, Any]]


def _caddy(change: Callable[[dict[str, Any]], object]) -> Callable[[Plan], Plan]:
    def edit(text: str) -> str:
        tree = json.loads(text)
        change(tree)
        return json.dumps(tree)

    return _file("gateway-config", edit)


def _servers(change: Callable[[Servers], object]) -> Callable[[Plan], Plan]:
    return _caddy(lambda tree: change(tree["apps"]["http"]["servers"]))


def _route_of(path: str, change: Callable[[dict[str, Any]], object], server: str = "https") -> Callable[[Plan], Plan]:
    """Changes the first route that leads somewhere from this path."""

    def edit(servers: Servers) -> None:
        named = [r for r in servers[server]["routes"] if path in str([m.get("llm_path") for m in r.get("match", [])])]
        named = [
            r for r in named if {"reverse_proxy", "llm_native", "llm_models"} & {h["handler"] for h in r["handle"]}
        ]
        change(named[0])

    return _servers(edit)


def _kept_handlers(kind: str) -> Callable[[dict[str, Any]], object]:
    """Drops the handlers of a kind."""
    return lambda route: route.update(handle=[h for h in route["handle"] if h["handler"] != kind])


def _first(server: str, change: Callable[[list[Any]], object]) -> Callable[[Plan], Plan]:
    return _servers(lambda servers: change(servers[server]["routes"][0]["handle"]))


_CHAT: Final = "/v1/chat/completions"
_PULL: Final = {
    "match": [{"method": ["POST"], "llm_path": ["/ollama/api/pull"]}],
    "handle": [{"handler": "llm_auth", "addresses": {}}, {"handler": "llm_models"}],
    "terminal": True,
}
_ROUTING: Final = [
    Mutation("routing.every_listener_starts_with_the_edge", "no edge", _first("https", lambda first: first.pop())),
    Mutation(
        "routing.every_listener_starts_with_the_edge",
        "a door before it",
        _servers(lambda servers: servers["https"]["routes"].insert(0, _PULL)),
    ),
    Mutation(
        "routing.every_listener_starts_with_the_edge",
        "the request is changed before it",
        _first("inner", lambda first: first[0].update(request={"set": {"Host": ["x"]}})),
    ),
    Mutation(
        "routing.every_listener_starts_with_the_edge", "any name", _first("https", lambda first: first[-1].pop("hosts"))
    ),
    Mutation(
        "routing.every_listener_starts_with_the_edge",
        "plain is called encrypted",
        _first("redirect", lambda first: first[-1].update(proto="https")),
    ),
    Mutation(
        "routing.listeners_are_those_of_the_configuration",
        "one more",
        _servers(lambda servers: servers.update(more=servers["inner"])),
    ),
    Mutation(
        "routing.listeners_are_those_of_the_configuration",
        "bodies may take for ever",
        _servers(lambda servers: servers["https"].pop("read_min_rate")),
    ),
    Mutation(
        "routing.listeners_are_those_of_the_configuration",
        "long answers are cut",
        _servers(lambda servers: servers["https"].update(write_timeout="60s")),
    ),
    Mutation(
        "routing.listeners_are_those_of_the_configuration",
        "the administration is on",
        _caddy(lambda tree: tree["admin"].update(disabled=False)),
    ),
    Mutation("routing.every_search_ends", "no end", _servers(lambda servers: servers["https"]["routes"].pop())),
    Mutation(
        "routing.every_search_ends",
        "bare errors",
        _servers(lambda servers: servers["https"]["errors"]["routes"].pop(0)),
    ),
    Mutation("routing.every_search_ends", "no errors", _servers(lambda servers: servers["redirect"].pop("errors"))),
    Mutation(
        "routing.paths_are_matched_to_the_letter",
        "Caddy's own",
        _route_of(_CHAT, lambda route: route.update(match=[{"path": [_CHAT], "method": ["POST"]}])),
    ),
    Mutation("routing.engines_are_behind_a_key_and_the_meter", "no key", _route_of(_CHAT, _kept_handlers("llm_auth"))),
    Mutation("routing.engines_are_behind_a_key_and_the_meter", "no meter", _route_of(_CHAT, _kept_handlers("llm"))),
    Mutation(
        "routing.engines_are_behind_a_key_and_the_meter",
        "straight to the engine",
        _route_of(_CHAT, lambda route: route["handle"][-1].update(upstreams=[{"dial": "ollama:11434"}])),
    ),
    Mutation(
        "routing.engines_are_behind_a_key_and_the_meter",
        "with the client's key",
        _route_of(_CHAT, lambda route: route["handle"][-1]["headers"]["request"].update(delete=["Cookie"])),
    ),
    Mutation(
        "routing.engines_are_behind_a_key_and_the_meter",
        "lists without a key",
        _route_of("/ollama/api/tags", _kept_handlers("llm_auth")),
    ),
    Mutation(
        "routing.every_door_has_a_limit", "sign-in without one", _route_of("auths/signin", _kept_handlers("llm_limit"))
    ),
    Mutation(
        "routing.every_door_has_a_limit",
        "guesses without one",
        _route_of(_CHAT, lambda route: route["handle"][0].update(addresses=None)),
    ),
    Mutation(
        "routing.every_door_has_a_limit", "any method", _route_of(_CHAT, lambda route: route["match"][0].pop("method"))
    ),
    Mutation(
        "routing.only_declared_paths_lead_somewhere",
        "models are managed",
        _servers(lambda servers: servers["https"]["routes"].insert(1, _PULL)),
    ),
    Mutation(
        "routing.only_declared_paths_lead_somewhere",
        "the native API inside",
        _servers(lambda servers: servers["inner"]["routes"].insert(1, _PULL)),
    ),
    Mutation(
        "routing.upstreams_do_not_speak_for_us",
        "the engine's CORS",
        _route_of(_CHAT, lambda route: route["handle"][-1]["headers"].pop("response")),
    ),
    Mutation(
        "routing.other_origins_are_those_of_the_configuration",
        "anybody",
        _servers(
            lambda servers: servers["https"]["routes"][0]["handle"].insert(
                0, {"handler": "headers", "response": {"set": {"Access-Control-Allow-Origin": ["*"]}}}
            )
        ),
    ),
    Mutation(
        "routing.other_origins_are_those_of_the_configuration",
        "not the listed one",
        _file("gateway-config", lambda text: text.replace("https://app.example.org", "https://evil.example.org")),
        sample="public",
    ),
    Mutation(
        "routing.other_origins_are_those_of_the_configuration",
        "with cookies",
        _file(
            "gateway-config",
            lambda text: text.replace('"Access-Control-Max-Age"', '"Access-Control-Allow-Credentials"'),
        ),
        sample="public",
    ),
    Mutation(
        "routing.every_answer_has_its_headers", "framed", _first("https", lambda first: first[0]["response"].pop("set"))
    ),
    Mutation(
        "routing.every_answer_has_its_headers",
        "errors without",
        _servers(lambda servers: servers["https"]["errors"]["routes"][0]["handle"].pop(0)),
    ),
    Mutation(
        "routing.names_are_those_of_the_configuration",
        "one more name",
        _first("https", lambda first: first[-1]["hosts"].append("evil.example:8443")),
    ),
    Mutation(
        "routing.names_are_those_of_the_configuration",
        "away from here",
        _servers(
            lambda servers: servers["redirect"]["routes"][1]["handle"][0]["headers"].update(Location=["https://evil"])
        ),
    ),
]

MUTATIONS: Final = [
    Mutation(
        "exposure.only_the_gateway_publishes", "the engine publishes", _sets("ollama-container", ports=[_EVERYWHERE])
    ),
    Mutation("exposure.only_the_gateway_publishes", "nobody publishes", _sets("gateway-container", ports=[])),
    Mutation("exposure.ports_are_on_addresses_of_our_own", "all addresses", _port(ip="0.0.0.0")),
    Mutation("exposure.ports_are_on_addresses_of_our_own", "no address", _port(ip="")),
    Mutation("exposure.ports_are_on_addresses_of_our_own", "an address of the internet", _port(ip="8.8.8.8")),
    Mutation("exposure.ports_are_those_of_the_configuration", "another port", _port(external=4430.0)),
    Mutation("exposure.ports_are_those_of_the_configuration", "the LAN", _port(ip="192.168.1.4")),
    Mutation(
        "exposure.ports_are_those_of_the_configuration",
        "administrators from anywhere",
        _does("gateway-container", lambda there: there["ports"][-1].update(ip="0.0.0.0")),
        sample="public",
    ),
    Mutation(
        "exposure.no_container_publishes_by_other_ways", "host network", _sets("chat-container", networkMode="host")
    ),
    Mutation(
        "exposure.no_container_publishes_by_other_ways", "all ports", _sets("chat-container", publishAllPorts=True)
    ),
    *_ROUTING,
    Mutation("networks.members_are_those_of_the_picture", "chat on engine", _joins("chat-container", "engine")),
    Mutation("networks.members_are_those_of_the_picture", "chroma on app", _joins("chroma-container", "app")),
    Mutation(
        "networks.members_are_those_of_the_picture",
        "an own service beside the chat",
        _joins("questions-container", "app"),
        "own",
    ),
    Mutation(
        "networks.members_are_those_of_the_picture",
        "own services beside each other",
        _joins("questions-container", "service-status-page"),
        "own",
    ),
    Mutation(
        "volumes.configuration_is_read_only", "two write models", _mount("ollama-2-container", readOnly=False), "own"
    ),
    Mutation(
        "secrets.secrets_reach_their_sinks_and_nothing_else",
        "a service has another's key",
        _canary_in("status-page-container", "envs", "key-questions", lambda key: Secret([f"OPENAI_API_KEY={key}"])),
        "own",
    ),
    Mutation(
        "secrets.no_secret_is_in_clear",
        "an engine's key in the configuration",
        _canary_in("gateway-config-seed", "uploads", "engine-key-cloud", lambda key: [{"content": key}]),
        "own",
    ),
    Mutation("networks.networks_are_those_of_the_picture", "engine is open", _sets("engine-network", internal=False)),
    Mutation("networks.networks_are_those_of_the_picture", "internal not said", _drops("app-network", "internal")),
    Mutation("networks.networks_are_those_of_the_picture", "no pull network", _without("pull-network")),
    Mutation("networks.engine_and_vectors_have_no_way_out", "engine on pull", _joins("ollama-container", "pull")),
    Mutation("networks.engine_and_vectors_have_no_way_out", "vectors open", _sets("vectors-network", internal=False)),
    Mutation("networks.every_service_says_its_networks", "no network", _sets("chroma-container", networksAdvanced=[])),
    Mutation("networks.every_service_says_its_networks", "a job with a way out", _drops("chat-owner", "networkMode")),
    Mutation(
        "networks.aliases_are_the_service_names",
        "chat answers as the gateway",
        _does("chat-container", lambda there: there["networksAdvanced"][0].update(aliases=["chat", "gateway"])),
    ),
    Mutation(
        "networks.models_are_pulled_on_the_pull_network",
        "pulls on the engine's network",
        _does("models-pull", lambda there: there["environment"].update(MODEL_SET_NETWORK="private-llm-dev-engine")),
    ),
    Mutation(
        "networks.models_are_pulled_on_the_pull_network",
        "a model from anywhere",
        _model_set(lambda spec: spec["models"][0].update(network="bridge")),
    ),
    Mutation(
        "secrets.no_secret_is_in_clear",
        "in an env",
        _canary_in("chat-container", "envs", "key-chat", lambda c: [f"K={c}"]),
    ),
    Mutation(
        "secrets.no_secret_is_in_clear",
        "half an output",
        lambda plan: _says("nextSteps", [f"sign in with {plan.sample.canaries['admin-password']}"])(plan),
    ),
    Mutation(
        "secrets.secrets_reach_their_sinks_and_nothing_else",
        "the engine gets a key",
        _canary_in("ollama-container", "envs", "key-laptop", lambda c: [Secret(f"K={c}")]),
    ),
    Mutation(
        "secrets.secrets_reach_their_sinks_and_nothing_else", "chat has none", _sets("chat-container", envs=["A=b"])
    ),
    Mutation(
        "secrets.no_secret_where_everybody_reads",
        "in a command",
        _canary_in("chroma-container", "command", "admin-password", lambda c: Secret(["run", f"--password={c}"])),
    ),
    Mutation("secrets.settings_that_sound_secret_are", "a clear key", _tells("chat-container", "OPENAI_API_KEY=none")),
    Mutation(
        "secrets.secret_files_are_the_services_own", "all may read", _upload("gateway-ca-key", permissions="0444")
    ),
    Mutation("secrets.secret_files_are_the_services_own", "root's", _upload("gateway-consumers", owner="0")),
    Mutation(
        "secrets.consumers_are_known_by_hash",
        "a consumer is missing",
        _file("gateway-consumers", lambda text: text.replace('"guest"', '"nobody"')),
    ),
    Mutation(
        "secrets.consumers_are_known_by_hash",
        "a key from before works for ever",
        _file("gateway-consumers", lambda text: text.replace(f'"{OVERLAP}"', "null")),
        sample="public",
    ),
    Mutation("images.images_are_pinned", "a tag", _sets("chroma-image", name="docker.io/chromadb/chroma:latest")),
    Mutation("images.images_are_pinned", "a built one without hash", _sets("gateway-image", name="gateway:latest")),
    Mutation(
        "images.builds_start_from_pinned_images",
        "from a tag",
        _does("gateway-image", lambda there: there["build"]["buildArgs"].update(RUNTIME_IMAGE="debian:12")),
    ),
    Mutation("images.containers_run_images_of_the_plan", "a tag", _sets("chroma-container", image="chroma:1.5.9")),
    Mutation("images.images_stay_on_the_host", "removed", _sets("chroma-image", keepLocally=False)),
    Mutation("images.images_stay_on_the_host", "for nobody", _without("chroma-container")),
    Mutation("names.physical_names_say_project_and_stack", "a bare name", _sets("chroma-container", name="chroma")),
    Mutation("names.names_are_unique", "twice in Docker", _sets("chat-owner", name="private-llm-dev-chat")),
    Mutation("names.names_are_unique", "twice in Pulumi", _is("chat-owner", name="chat-container")),
    Mutation("names.names_can_be_host_names", "an underscore", _is("chroma-container", name="my_chroma-container")),
    Mutation("names.type_tokens_say_the_room", "another room", _is("memory", typ="llm:vectors:Memory")),
    Mutation("names.everything_is_labelled", "no labels", _sets("chroma-data", labels=[])),
    Mutation(
        "names.labels_are_in_order", "turned round", _does("chroma-data", lambda there: there["labels"].reverse())
    ),
    Mutation("health.services_have_a_check", "none", _drops("chroma-container", "healthcheck")),
    Mutation(
        "health.services_have_a_check", "a shell", _check("chat-container", tests=["CMD-SHELL", "curl localhost"])
    ),
    Mutation(
        "health.checks_stay_inside", "asks elsewhere", _check("chat-container", tests=["CMD", "curl", "http://chroma/"])
    ),
    Mutation("health.up_waits_for_services", "nobody waits", _sets("ollama-container", wait=False)),
    Mutation("health.up_waits_for_services", "not long enough", _sets("chat-container", waitTimeout=60.0)),
    Mutation("health.services_come_back_and_jobs_do_not", "stays down", _sets("ollama-container", restart="no")),
    Mutation("health.services_come_back_and_jobs_do_not", "a job for ever", _sets("chat-owner", restart="always")),
    Mutation("health.jobs_are_done_before_up_goes_on", "in the background", _sets("chat-owner", attach=False)),
    Mutation("health.jobs_are_done_before_up_goes_on", "no command", _sets("gateway-ca-seed", command=[])),
    Mutation("health.services_stop_gently", "killed at once", _sets("prometheus-container", stopTimeout=1.0)),
    Mutation(
        "hardening.capabilities_are_dropped", "lower case", _sets("chat-container", capabilities={"drops": ["all"]})
    ),
    Mutation(
        "hardening.capabilities_are_dropped",
        "one is back",
        _sets("chat-container", capabilities={"drops": ["ALL"], "adds": ["CAP_NET_RAW"]}),
    ),
    Mutation("hardening.capabilities_are_dropped", "forgotten", _drops("ollama-container", "capabilities")),
    Mutation("hardening.no_new_privileges", "forgotten", _sets("chat-container", securityOpts=[])),
    Mutation("hardening.no_new_privileges", "privileged", _sets("ollama-container", privileged=True)),
    Mutation("hardening.roots_are_read_only", "writable", _sets("chat-container", readOnly=False)),
    Mutation("hardening.users_are_not_root", "root", _sets("ollama-container", user="0:0")),
    Mutation("hardening.users_are_not_root", "the image's", _drops("grafana-container", "user")),
    Mutation("hardening.memory_and_cpus_are_bounded", "no memory limit", _drops("ollama-container", "memory")),
    Mutation("hardening.memory_and_cpus_are_bounded", "swap on top", _sets("ollama-container", memorySwap=99999.0)),
    Mutation("hardening.memory_and_cpus_are_bounded", "no CPU limit", _drops("chat-owner", "cpus")),
    Mutation("hardening.cpus_are_spelt_as_they_are_read_back", "a bare number", _sets("chat-container", cpus="2")),
    Mutation("hardening.logs_are_bounded", "no cap", _sets("chat-container", logOpts={"max-size": "10m"})),
    Mutation(
        "hardening.temporary_folders_are_bounded", "no size", _sets("chat-container", tmpfs={"/tmp": "mode=1777"})
    ),
    Mutation("hardening.nothing_of_the_host_is_shared", "a folder", _mount("chat-container", hostPath="/etc")),
    Mutation(
        "hardening.nothing_of_the_host_is_shared",
        "Docker's socket",
        _mount("prometheus-container", hostPath="/var/run/docker.sock"),
    ),
    Mutation(
        "hardening.nothing_of_the_host_is_shared", "the host's PIDs", _sets("node-exporter-container", pidMode="host")
    ),
    Mutation("hardening.cards_only_where_they_are_needed", "chat sees cards", _sets("chat-container", gpus="all")),
    Mutation(
        "hardening.cards_only_where_they_are_needed",
        "chat sees a device",
        _sets("chat-container", devices=[{"hostPath": "/dev/dri"}]),
        sample="amd",
    ),
    Mutation("volumes.data_outlives_the_platform", "not protected", _is("chat-data", protect=False)),
    Mutation("volumes.data_outlives_the_platform", "deleted with it", _is("chat-data", retain_on_delete=False)),
    Mutation("volumes.data_outlives_the_platform", "files for ever", _is("gateway-config-files", protect=True)),
    Mutation(
        "volumes.volume_labels_never_change",
        "a label that changes",
        _does("chat-data", lambda there: there["labels"].append({"label": "version", "value": "1"})),
    ),
    Mutation(
        "volumes.mounts_are_in_order",
        "turned round",
        _does("gateway-container", lambda there: there["volumes"].reverse()),
    ),
    Mutation(
        "volumes.mounts_are_volumes_of_the_plan",
        "another's data",
        _mount("chroma-container", volumeName="private-llm-dev-chat-data"),
    ),
    Mutation(
        "volumes.mounts_are_volumes_of_the_plan", "a typing slip", _mount("chat-container", volumeName="chat-dta")
    ),
    Mutation("volumes.configuration_is_read_only", "writable", _mount("gateway-container", readOnly=False)),
    Mutation("volumes.fresh_data_gets_its_owner", "no job", _without("chroma-owner")),
    Mutation("volumes.fresh_data_gets_its_owner", "no waiting", _is("chroma-container", depends_on=())),
    Mutation("volumes.fresh_data_gets_its_owner", "another user", _sets("chroma-container", user="2000:2000")),
    Mutation(
        "scraping.every_service_is_read_or_says_why_not",
        "a job is forgotten",
        _file("prometheus-config", lambda text: text.replace("job_name: node-exporter", "job_name: node")),
    ),
    Mutation(
        "scraping.every_service_is_read_or_says_why_not",
        "no reason",
        lambda plan: replace(plan, unscraped=plan.unscraped | {"ollama": ""}),
    ),
    Mutation(
        "scraping.targets_can_be_reached",
        "nobody there",
        _file("prometheus-config", lambda text: text.replace("gateway:8081", "caddy:8081")),
    ),
    Mutation(
        "scraping.targets_can_be_reached",
        "another network",
        _file("prometheus-config", lambda text: text.replace("gateway:8081", "ollama:11434")),
    ),
    Mutation(
        "scraping.series_say_their_service",
        "another name",
        _file("prometheus-config", lambda text: text.replace("service: gateway", "service: caddy")),
    ),
    Mutation(
        "scraping.prometheus_cannot_be_told_what_to_do",
        "admin API",
        _does("prometheus-container", lambda there: there["command"].append("--web.enable-admin-api")),
    ),
    Mutation("structure.docker_resources_use_the_hosts_provider", "a default one", _is("chat-data", provider="")),
    Mutation("structure.children_belong_to_a_component", "an orphan", _is("chat-data", parent="")),
    Mutation(
        "structure.containers_make_room_for_themselves", "in the way", _is("chat-owner", delete_before_replace=False)
    ),
    Mutation("structure.services_wait_for_their_files", "no waiting", _is("gateway-container", depends_on=())),
    Mutation("structure.services_wait_for_their_files", "beside its volume", _upload("gateway-ca", file="/root.crt")),
    Mutation("structure.changed_configuration_replaces_the_service", "no hash", _sets("gateway-container", labels=[])),
    Mutation(
        "structure.every_file_can_be_checked_for_drift",
        "with their text",
        _files_output(lambda files: [file | {"content": "x"} for file in files]),
    ),
    Mutation(
        "structure.every_file_can_be_checked_for_drift",
        "one is missing",
        _files_output(lambda files: files[1:]),
    ),
    Mutation(
        "structure.every_file_can_be_checked_for_drift",
        "another hash",
        _file("gateway-config", lambda text: text + "\n"),
    ),
    Mutation("structure.outputs_tell_everything", "a service is missing", _says("services", [])),
    Mutation("structure.outputs_tell_everything", "left out in silence", _says("leftOut", []), sample="mirror"),
    Mutation("structure.destroying_never_erases_models", "a delete", _sets("models-pull", delete="ollama rm all")),
    Mutation("structure.destroying_never_erases_models", "another update", _sets("models-pull", update="true")),
    Mutation(
        "structure.destroying_never_erases_models",
        "another volume",
        _model_set(lambda spec: spec.update(volume="private-llm-dev-chat-data")),
    ),
]
