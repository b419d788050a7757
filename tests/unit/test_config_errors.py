"""Wrong configuration is refused in words: every problem, where it is, what is allowed, what was probably meant."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from stack.config import forms
from stack.config.explain import ConfigError, Problem, parse_platform

FILE = "Pulumi.test.yaml"
GOOD: dict[str, Any] = {
    "models": [
        {"name": "qwen3:0.6b", "aliases": ["default"]},
        {"name": "all-minilm", "role": "embedding", "aliases": ["embedding"]},
    ],
    "consumers": [{"name": "default"}, {"name": "chat"}],
}
BOX = {"name": "box", "urls": ["http://192.168.1.20:8000"]}
REPORTS = {"name": "reports", "build": "services/reports", "port": 8000, "path": "/reports"}
JARGON = re.compile(
    r"pydantic|valid_|validation|Input should|type=|https?://errors|tuple|dict|\bstr\b|\bint\b|None|Error"
)


def refused(platform: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse_platform(platform, FILE)  # type: ignore[arg-type]
    return caught.value


def with_(path: str, value: object) -> dict[str, Any]:
    """The good platform with one value replaced; `path` has dots and list positions."""
    platform = copy.deepcopy(GOOD)
    put(platform, path, value)
    return platform


def put(platform: dict[str, Any], path: str, value: object) -> None:
    *groups, last = path.split(".")
    here: Any = platform
    for step, following in itertools.pairwise([*groups, last]):
        if step.isdigit():
            here.extend({} for _ in range(len(here), int(step) + 1))
            here = here[int(step)]
        else:
            here = here.setdefault(step, [] if following.isdigit() else {})
    here[int(last) if last.isdigit() else last] = value


def only(error: ConfigError) -> Problem:
    assert len(error.problems) == 1, str(error)
    return error.problems[0]


def test_a_good_platform_is_returned() -> None:
    platform = parse_platform(GOOD, FILE)
    assert [model.name for model in platform.models] == ["qwen3:0.6b", "all-minilm"]
    assert platform.gateway.https_port == 8443


@pytest.mark.parametrize(
    ("path", "value", "key", "nearest"),
    [
        ("gatewy", {}, "gatewy", "gateway"),
        ("gateway.https_port", 1, "gateway.https_port", "httpsPort"),
        ("gateway.HttpsPort", 1, "gateway.HttpsPort", "httpsPort"),
        ("models.0.alias", ["x"], "models[0].alias", "aliases"),
        ("consumers.1.requestPerMinute", 3, "consumers[1].requestPerMinute", "requestsPerMinute"),
        ("engine.flash-attention", True, "engine.flash-attention", "flashAttention"),
        ("chat.features.websearch", True, "chat.features.websearch", "webSearch"),
        ("observability.scrapeIntervall", "5s", "observability.scrapeIntervall", "scrapeInterval"),
    ],
)
def test_an_unknown_key_gets_the_nearest_one(path: str, value: object, key: str, nearest: str) -> None:
    problem = only(refused(with_(path, value)))
    assert problem.key == f"private-llm:platform.{key}"
    assert problem.what == "this key is not known here"
    assert problem.nearest == nearest
    assert nearest in (problem.allowed or "").split(", ")


def test_a_key_in_the_wrong_section_is_told_its_place() -> None:
    problem = only(refused(with_("httpsPort", 443)))
    assert problem.nearest is None
    assert problem.fix == "it belongs to private-llm:platform.gateway.httpsPort"


def test_an_unknown_key_far_from_all_others_gets_no_guess() -> None:
    problem = only(refused(with_("engine.zzz", 1)))
    assert (problem.nearest, problem.fix) == (None, None)


@pytest.mark.parametrize(
    ("path", "value", "allowed", "nearest"),
    [
        ("models.1.role", "embeding", "chat or embedding", "embedding"),
        ("engine.accelerator", "NVIDIA", "cpu, nvidia or amd", "nvidia"),
        ("engine.kvCache", "q8", "f16, q8_0 or q4_0", "q8_0"),
        ("engine.accelerator", "tpu9000", "cpu, nvidia or amd", None),
    ],
)
def test_a_wrong_word_is_told_the_allowed_ones(path: str, value: str, allowed: str, nearest: str | None) -> None:
    problem = refused(with_(path, value)).problems[0]
    assert (problem.value, problem.allowed, problem.nearest) == (f'"{value}"', allowed, nearest)


@pytest.mark.parametrize(
    ("path", "value", "what", "nearest"),
    [
        ("gateway.httpsPort", "8443", "text where a whole number is needed", "8443"),
        ("gateway.httpsPort", "0844", "text where a whole number is needed", "844"),
        ("gateway.httpsPort", True, "true or false where a whole number is needed", None),
        ("memory.topK", 1.5, "a number with a fraction where a whole number is needed", None),
        ("chat.enabled", "yes", "text where true or false is needed", "true"),
        ("chat.enabled", "off", "text where true or false is needed", "false"),
        ("chat.enabled", 1, "a whole number where true or false is needed", None),
        ("chat", "on", "text where a group of keys is needed", None),
        ("gateway", None, "nothing where a group of keys is needed", None),
        ("engine.gpus", "0", "text where a list is needed", None),
        ("engine.gpus", [0], "a whole number where text is needed", None),
        ("gateway.maxUpload", 32, "a whole number where text is needed", None),
        ("models.0", "qwen3:0.6b", "text where a group of keys is needed", None),
        ("engine.resources", {"memory": "1GiB", "cpus": "2"}, "text where a number is needed", None),
    ],
)
def test_a_wrong_type_is_said_in_words(path: str, value: object, what: str, nearest: str | None) -> None:
    problem = refused(with_(path, value)).problems[0]
    assert (problem.what, problem.nearest) == (what, nearest)


@pytest.mark.parametrize(
    ("path", "value", "nearest"),
    [
        ("engine.keepAlive", "10 min", "10m"),
        ("engine.keepAlive", "10M", "10m"),
        ("engine.loadTimeout", "90 seconds", "90s"),
        ("engine.loadTimeout", "250millis", "250ms"),
        ("engine.keepAlive", "forever", None),
        ("engine.keepAlive", "-1m", None),
        ("engine.keepAlive", "10m\n", "10m"),
        ("engine.loadTimeout", "0s", None),
        ("engine.keepAlive", "1.5h", None),
        ("engine.keepAlive", "1" * 5000 + "h", None),
        ("gateway.maxUpload", "4GB", "4GiB"),
        ("gateway.maxUpload", "512m", "512MiB"),
        ("gateway.maxUpload", "4 Gi", "4GiB"),
        ("gateway.maxUpload", "0MiB", None),
        ("gateway.maxUpload", "4KiB", None),
    ],
)
def test_a_bad_duration_or_size_gets_the_nearest_spelling(path: str, value: str, nearest: str | None) -> None:
    problem = only(refused(with_(path, value)))
    assert problem.nearest == nearest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gateway.httpsPort", 0),
        ("gateway.httpsPort", 65536),
        ("gateway.address", "localhost"),
        ("gateway.hostnames", ["Bad_Host"]),
        ("gateway.hostnames", []),
        ("engine.parallel", 65),
        ("engine.contextLength", 511),
        ("engine.resources", {"memory": "1GiB", "cpus": 0}),
        ("engine.resources", {"memory": "1GiB", "cpus": 0.001}),
        ("engine.gpus", ["one"]),
        ("chat.title", ""),
        ("chat.title", "x" * 61),
        ("chat.adminEmail", "nobody"),
        ("observability.scrapeInterval", "500ms"),
        ("consumers.0.name", "A"),
        ("gateway.cors.origins", ["https://App.example.org"]),
        ("gateway.cors.origins", ["https://app.example.org:443"]),
        ("gateway.cors.origins", ["*"]),
        ("gateway.tls.directory", "http://ca.home.arpa"),
        ("consumers.0.requestsPerMinute", 0),
        ("consumers.0.scopes", []),
        ("consumers.0.expires", "2027-01-31T00:00:00"),
        ("consumers.0.expires", "20270131"),
        ("consumers.0.expires", 1801353600),
        ("consumers.0.expires", "2027-13-45T00:00:00Z"),
        ("models.0.digest", "sha256:abc"),
        ("models.0.name", "../../etc"),
    ],
)
def test_a_value_out_of_form_or_range_is_refused_at_its_path(path: str, value: object) -> None:
    error = refused(with_(path, value))
    wanted = re.sub(r"\.(\d+)", r"[\1]", path)
    assert error.problems[0].key.startswith(f"private-llm:platform.{wanted}")
    assert not JARGON.search(str(error)), str(error)


PUBLIC = {"gateway.exposure": "public", "gateway.tls": {"mode": "certificate"}, "gateway.address": "0.0.0.0"}


def test_what_is_public_and_guarded_is_taken() -> None:
    platform = copy.deepcopy(GOOD)
    for path, value in {**PUBLIC, "consumers.0.requestsPerMinute": 60}.items():
        put(platform, path, value)
    assert parse_platform(platform, FILE).gateway.exposure == "public"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("gateway.address", "100.64.0.1"),
        ("gateway.address", "100.127.255.254"),
        ("gateway.trustedProxies", ["172.16.0.0/12", "192.168.1.10", "fd00::/8", "::1"]),
        ("consumers.0.maxDuration", "7d"),
        ("consumers.0.maxBody", "32MiB"),
    ],
)
def test_what_is_just_allowed_is_taken(path: str, value: object) -> None:
    platform = copy.deepcopy(GOOD)
    put(platform, path, value)
    parse_platform(platform, FILE)


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"gateway.httpPort": 8443}, "gateway.httpPort", "must differ"),
        ({"gateway.maxBody": "65MiB"}, "gateway.maxBody", "a quarter of resources.memory (256MiB)"),
        ({"gateway.exposure": "public"}, "gateway.tls.mode", "certificate that browsers know"),
        ({"gateway.address": "8.8.8.8"}, "gateway.address", "exposure: public"),
        ({"gateway.address": "0.0.0.0"}, "gateway.address", "exposure: public"),
        ({"gateway.tls": {"email": "me@example.org"}}, "gateway.tls.email", "only with mode: acme"),
        ({"gateway.tls": {"mode": "acme"}}, "gateway.httpPort", "port 80 or 443"),
        ({"gateway.tls": {"mode": "acme"}}, "gateway.hostnames[0]", "no ACME authority vouches"),
        (
            {"gateway.tls": {"mode": "acme"}, "gateway.hostnames": ["llm.home.arpa"]},
            "gateway.hostnames[0]",
            "no authority of the internet",
        ),
        ({**PUBLIC, "gateway.limits": {"ban": "2h"}}, "gateway.limits.longestBan", "shorter than ban (2h)"),
        ({"gateway.limits": {"api": {"events": 1, "per": "61s"}}}, "gateway.limits.api", "at least 1 request a minute"),
        ({**PUBLIC, "chat.signUp": True}, "chat.signUp", "set signUp: false"),
        (PUBLIC, "consumers[0]", "an end or a limit of its own"),
        ({"gateway.address": "100.128.0.1"}, "gateway.address", "exposure: public"),
        ({"gateway.trustedProxies": ["0.0.0.0/0"]}, "gateway.trustedProxies[0]", "every address"),
        ({"gateway.trustedProxies": ["::/0"]}, "gateway.trustedProxies[0]", "every address"),
        ({"gateway.trustedProxies": ["10.0.0.1/8"]}, "gateway.trustedProxies[0]", "not an IP address or network"),
        ({"gateway.trustedProxies": ["proxy.lan"]}, "gateway.trustedProxies[0]", "not an IP address or network"),
        ({"consumers.0.maxDuration": "8d"}, "consumers[0].maxDuration", "at most 7d"),
        ({"consumers.0.maxBody": "2TiB"}, "consumers[0].maxBody", "at most 1TiB"),
        ({"consumers.0.maxBody": "33MiB"}, "consumers[0].maxBody", "larger than gateway.maxBody (32MiB)"),
        ({"gateway.chatHostnames": ["localhost"]}, "gateway.chatHostnames", "a name leads to one place"),
        ({"gateway.admin": "local", "gateway.adminPort": 8443}, "gateway.adminPort", "must differ"),
        ({"gateway.admin": "local", "observability.enabled": False}, "gateway.admin", "nothing to show"),
        ({"models.1.aliases": ["default:latest"]}, "models", "more than once"),
        ({"engine.kvCache": "q8_0"}, "engine.kvCache", "flashAttention: true"),
        ({"engine.gpus": ["0"]}, "engine.gpus", "accelerator is cpu"),
        (
            {"engine.accelerator": "amd", "engine.deviceGroups": [44], "engine.gpus": ["GPU-" + "a" * 36]},
            "engine.gpus",
            "by index",
        ),
        ({"engine.accelerator": "amd"}, "engine.deviceGroups", "needed with accelerator amd"),
        ({"engine.deviceGroups": [44]}, "engine.deviceGroups", "only there"),
        ({"engine.accelerator": "nvidia", "engine.gpus": ["0", "0"]}, "engine.gpus", "twice"),
        ({"memory.chunkSize": 100}, "memory.chunkOverlap", "smaller than chunkSize (100)"),
        ({"models.0.aliases": []}, "models", "alias `default`"),
        ({"models.0.role": "embedding"}, "models", "alias `default`"),
        ({"models.1.role": "chat"}, "memory", "memory.enabled: false"),
        ({"models.1.aliases": ["qwen3:0.6b"]}, "models", "more than once"),
        ({"consumers.1.name": "default", "chat.enabled": False}, "consumers", "more than once"),
        ({"consumers.1.name": "anna"}, "consumers", "chat.enabled: false"),
        ({"consumers.1.models": ["gpt-4"]}, "consumers[1].models[0]", "not among the models"),
        ({"engine.accelerator": "nvidia", "engine.instances": 2}, "engine.gpus", "list them by index"),
        (
            {"engine.accelerator": "nvidia", "engine.gpus": ["0", "1", "2"], "engine.instances": 2},
            "engine.instances",
            "3 gpus cannot be shared out evenly among 2 instances",
        ),
        ({"engine.hardware": [{"memory": "24GiB"}]}, "engine.hardware", "which has no cards"),
        (
            {"engine.accelerator": "nvidia", "engine.gpus": ["0", "1"], "engine.hardware": [{"memory": "24GiB"}]},
            "engine.hardware",
            "1 cards, and gpus has 2",
        ),
        (
            {
                "engine.accelerator": "nvidia",
                "engine.gpus": ["0", "1"],
                "engine.instances": 2,
                "engine.hardware": [{"memory": "24GiB"}] * 3,
            },
            "engine.hardware",
            "3 cards, and gpus has 2",
        ),
        ({"engine.accelerator": "nvidia", "engine.hardware": [{}]}, "engine.hardware[0].device", "needs its id"),
        (
            {"engine.accelerator": "nvidia", "engine.hardware": [{"device": "rtx4090"}]},
            "engine.hardware[0].device",
            "nearest: nvidia-rtx-4090",
        ),
        (
            {"engine.accelerator": "nvidia", "engine.hardware": [{"memory": "8GiB", "reserve": "8GiB"}]},
            "engine.hardware[0].reserve",
            "smaller than the card's memory, 8192MiB",
        ),
        ({"models.1.engine": "box"}, "models[1].engine", "not among the upstreams"),
        (
            {"models.1.digest": "sha256:" + "0" * 64, "models.1.engine": "box", "upstreams": [BOX]},
            "models[1].digest",
            "only models that the platform pulls itself",
        ),
        ({"models.0.fallback": "none"}, "models[0].fallback", "not among the models"),
        ({"models.0.fallback": "embedding"}, "models[0].fallback", "role embedding"),
        ({"models.1.fallback": "default"}, "models[1].fallback", "vectors of two models"),
        ({"models.0.fallback": "default"}, "models[0].fallback", "in a circle (qwen3:0.6b -> qwen3:0.6b)"),
        (
            {"models.0.fallback": "b", "models.2.name": "b", "models.2.fallback": "default"},
            "models[2].fallback",
            "in a circle (b -> qwen3:0.6b -> b)",
        ),
        ({"upstreams": [BOX, BOX]}, "upstreams", "'box' is there more than once"),
        ({"upstreams": [BOX | {"name": "ollama"}]}, "upstreams[0].name", "the platform itself"),
        ({"upstreams": [BOX | {"urls": ["http://vllm.example.org"]}]}, "upstreams[0].urls[0]", "use https://"),
        ({"upstreams": [BOX | {"urls": ["http://8.8.8.8:8000"]}]}, "upstreams[0].urls[0]", "use https://"),
        ({"upstreams": [BOX | {"urls": ["http://localhost:1234"]}]}, "upstreams[0].urls[0]", "own container"),
        ({"upstreams": [BOX | {"urls": ["http://[::1]:1234"]}]}, "upstreams[0].urls[0]", "own container"),
        ({"upstreams": [BOX | {"urls": ["http://169.254.169.254"]}]}, "upstreams[0].urls[0]", "no engine can be"),
        ({"upstreams": [BOX | {"urls": ["http://a", "https://b"]}]}, "upstreams[0].urls", "in the same way"),
        ({"upstreams": [BOX | {"urls": ["http://a", "http://a/"]}]}, "upstreams[0].urls", "listed twice"),
        ({"services": [REPORTS | {"image": None, "build": None}]}, "services[0].image", "either image or build"),
        ({"services": [REPORTS | {"name": "chroma"}]}, "services[0].name", "the platform itself"),
        ({"services": [REPORTS | {"name": "ollama-2"}]}, "services[0].name", "the platform itself"),
        ({"services": [REPORTS | {"name": "x-seed"}]}, "services[0].name", "the platform itself"),
        ({"services": [REPORTS | {"path": "/v1/reports"}]}, "services[0].path", "belong to the gateway"),
        ({"services": [REPORTS | {"env": {"DB_PASSWORD": "x"}}]}, "services[0].env", "sounds like a secret"),
        (
            {"services": [REPORTS | {"api": True, "env": {"OPENAI_BASE_URL": "x"}}]},
            "services[0].env",
            "set by the platform",
        ),
        ({"services": [REPORTS | {"api": True}]}, "services[0].api", "add `- name: reports` to consumers"),
        ({"services": [REPORTS], "consumers.2.name": "reports"}, "services[0].name", "a consumer has this name too"),
        (
            {"services": [REPORTS | {"name": "box"}], "upstreams": [BOX]},
            "services[0].name",
            "an upstream has this name",
        ),
        ({"services": [REPORTS, REPORTS | {"path": "/else"}]}, "services", "'reports' is there more than once"),
        (
            {"services": [REPORTS, REPORTS | {"name": "other", "path": "/reports/other"}]},
            "services[1].path",
            "overlaps with '/reports'",
        ),
    ],
)
def test_an_impossible_combination_names_the_key_to_change(changes: dict[str, object], key: str, says: str) -> None:
    platform = copy.deepcopy(GOOD)
    for path, value in changes.items():
        put(platform, path, value)
    found = {problem.key: problem.what for problem in refused(platform).problems}
    assert says in found[f"private-llm:platform.{key}"]


@pytest.mark.parametrize(
    "url", ["http://vllm:8000", "http://10.0.0.1", "http://[fd00::1]:1", "https://api.example.org"]
)
def test_an_engine_elsewhere_may_be_there(url: str) -> None:
    platform = parse_platform(with_("upstreams", [BOX | {"urls": [url]}]), FILE)
    assert len(platform.upstreams[0].addresses) == 1


def test_addresses_of_engines_elsewhere_always_have_their_port() -> None:
    urls = ["https://api.example.org", "https://[fd00::1]", "https://b.example.org:8443/"]
    (box,) = parse_platform(with_("upstreams", [BOX | {"urls": urls}]), FILE).upstreams
    assert box.addresses == ("api.example.org:443", "[fd00::1]:443", "b.example.org:8443")
    assert box.encrypted


def test_models_that_answer_for_each_other_in_a_line_are_fine() -> None:
    platform = copy.deepcopy(GOOD)
    platform["models"] += [{"name": "b", "fallback": "default"}, {"name": "c", "fallback": "b"}]
    assert parse_platform(platform, FILE).models[-1].fallback == "b"


def test_all_instances_together_take_what_each_runs_and_holds() -> None:
    engine = parse_platform(with_("engine", {"instances": 3, "parallel": 2, "queue": 10}), FILE).engine
    assert (engine.names, engine.slots) == (("ollama", "ollama-2", "ollama-3"), 36)


def test_what_is_off_is_not_asked_for() -> None:
    platform = with_("chat.enabled", False)
    platform["models"] = platform["models"][:1]
    platform["consumers"] = platform["consumers"][:1]
    assert not parse_platform(platform, FILE).uses_memory


@pytest.mark.parametrize(
    ("env", "key", "what"),
    [
        ({"1ST": "x"}, "env.1ST", "a variable's name has letters"),
        ({"LEVEL": 1}, "env.LEVEL", "a whole number where text is needed"),
    ],
)
def test_settings_of_a_service_are_names_and_texts(env: dict[str, object], key: str, what: str) -> None:
    service = {"name": "reports", "build": "services/reports", "port": 8000, "path": "/reports", "env": env}
    problem = only(refused(with_("services", [service])))
    assert problem.key == f"private-llm:platform.services[0].{key}"
    assert problem.what.startswith(what)


def test_a_model_that_a_consumer_misspells_gets_the_nearest_name() -> None:
    problem = only(refused(with_("consumers.0.models", ["defualt"])))
    assert (problem.value, problem.nearest) == ('"defualt"', "default")


def test_all_problems_come_at_once_also_those_the_first_ones_hide() -> None:
    platform = with_("gateway", {"httpsPort": "8443", "httpPort": 8443, "maxBdy": "1MiB"})
    platform["engine"] = {"kvCache": "q8_0"}
    platform["consumers"][0]["models"] = ["defualt"]
    platform["models"][1]["role"] = "embeding"
    keys = [problem.key.removeprefix("private-llm:platform.") for problem in refused(platform).problems]
    assert sorted(keys) == sorted(
        [
            "gateway.httpsPort",
            "gateway.maxBdy",
            "gateway.httpPort",
            "engine.kvCache",
            "models[1].role",
            "consumers[0].models[0]",
        ]
    )


def test_an_unclear_section_brings_no_problems_that_only_follow_from_it() -> None:
    problem = only(refused(with_("models.1.role", "zzzzz")))
    assert problem.key.endswith("models[1].role")


def test_what_was_meant_by_an_unknown_key_is_not_guessed_into_other_problems() -> None:
    platform = copy.deepcopy(GOOD)
    platform["models"][0]["nicknames"] = platform["models"][0].pop("aliases")
    problem = only(refused(platform))
    assert (problem.key, problem.nearest) == ("private-llm:platform.models[0].nicknames", None)


def test_a_list_of_bad_entries_is_not_called_empty() -> None:
    assert only(refused(with_("models", [5]))).key == "private-llm:platform.models[0]"


def test_a_misspelt_required_key_is_one_problem_not_two() -> None:
    platform = copy.deepcopy(GOOD)
    platform["models"][0]["nam"] = platform["models"][0].pop("name")
    assert only(refused(platform)).nearest == "name"


@pytest.mark.parametrize(
    ("path", "value", "command"),
    [
        ("adminPassword", "hunter2", "private-llm:admin-password"),
        ("chat.admin_password", "hunter2", "private-llm:admin-password"),
        ("consumers.0.key", "sk-hunter2", "private-llm:key-default"),
        ("chat.features.apiKey", "sk-hunter2", "private-llm:api-key"),
        ("engine.token", "hunter2", "private-llm:token"),
        ("upstreams.0.apiKey", "hunter2", "private-llm:engine-key-<name>"),
        ("webuiSecretKey", "hunter2", "private-llm:webui-secret-key"),
    ],
)
def test_a_secret_in_the_object_is_pointed_to_its_place_and_never_shown(path: str, value: str, command: str) -> None:
    error = refused(with_(path, value))
    assert f"`pulumi config set --secret {command}`" in str(error)
    assert "hunter2" not in str(error)


def test_a_switch_whose_name_sounds_secret_is_only_a_misspelt_key() -> None:
    assert only(refused(with_("chat.features.apiKey", True))).nearest == "apiKeys"


@pytest.mark.parametrize("platform", [[], "text", 5, None, {}, {"models": [], "consumers": []}, {"models": {}}])
def test_no_shape_of_input_ends_in_anything_but_words(platform: object) -> None:
    error = refused(platform)
    assert not JARGON.search(str(error)), str(error)


def test_the_text_names_the_file_the_count_and_the_reference() -> None:
    text = str(refused(with_("gateway", {"httpsPort": 0, "httpPort": 0})))
    assert text.startswith(f"{FILE}: the configuration has 2 problems, nothing was changed\n")
    assert "docs/configuration.md" in text


def test_a_whole_block_reads_like_this() -> None:
    assert only(refused(with_("models.1.role", "embeding"))).block() == (
        "private-llm:platform.models[1].role\n"
        '  value:   "embeding"\n'
        "  problem: this word is not among those allowed\n"
        "  allowed: chat or embedding\n"
        "  nearest: embedding"
    )


def leaves(node: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, inner in forms.resolve(node).get("properties", {}).items():
        group = forms.resolve(inner)
        if "properties" in group:
            yield from leaves(group, (*path, name))
        elif group.get("type") == "array" and "properties" in forms.resolve(group["items"]):
            yield from leaves(group["items"], (*path, name, "0"))
        else:
            yield (*path, name)


LEAVES = sorted(leaves(forms.platform_schema()))


def test_the_law_below_sees_the_whole_model() -> None:
    assert len(LEAVES) > 40


@pytest.mark.parametrize("leaf", LEAVES, ids=".".join)
@pytest.mark.parametrize("wrong", [{"a": 1}, "\0", float("nan")], ids=["group", "control", "nan"])
def test_every_key_refuses_nonsense_in_words(leaf: tuple[str, ...], wrong: object) -> None:
    path = ".".join(leaf)
    error = refused(with_(path, wrong))
    assert re.sub(r"\.(\d+)", r"[\1]", path) in str(error)
    assert not JARGON.search(str(error)), str(error)


def test_what_was_written_is_not_called_the_nearest() -> None:
    problem = only(refused(with_("consumers.0.maxDuration", "8d")))
    assert (problem.value, problem.nearest) == ('"8d"', None)
