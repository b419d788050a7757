"""The configuration model: one frozen object per platform, every default spelt once, every refusal explained.

Pure: no Pulumi in here, so editors (JSON Schema), the reference in `docs/` and the tests use the same model.
Keys are camelCase in YAML and snake_case in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from stack.capacity.devices import find
from stack.config import exposure
from stack.config.access import CHAT_CONSUMER, Consumer
from stack.config.gateway import Gateway
from stack.config.resources import Resources
from stack.config.services import OWN_NAMES, OwnService
from stack.config.strict import Strict, refuse, twice, words
from stack.config.texts import Device, Digest, Email, EngineUrl, Gpu, ModelName, Name, Reason, Title
from stack.config.units import Duration, DurationOrZero, Size, mebibytes

OWN_ENGINE: Final = "ollama"  # what the gateway calls the platform's own engine


class Accelerator(StrEnum):
    """What the engine computes on."""

    CPU = "cpu"
    NVIDIA = "nvidia"
    AMD = "amd"


class Role(StrEnum):
    """What a model is for."""

    CHAT = "chat"
    EMBEDDING = "embedding"


class KvCache(StrEnum):
    """Number format of the attention cache."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


class Card(Strict):
    """A card that the engine computes on, or what its memory is like: what `make plan` and the fit check count with."""

    device: Device | None = None
    """Which one it is, by its id in stack/capacity/data/devices.csv; or give memory and bandwidth."""
    memory: Size | None = None
    """What programs can use of it; unset is what the table says."""
    bandwidth: Annotated[float, Field(ge=10, le=100_000)] | None = None
    """What its memory delivers at most, in GB a second; unset is what the table says."""
    reserve: Size | None = None
    """What other programs and a desktop need of its memory."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if not self.device and not self.memory:
            refuse(["device: a card needs its id or its memory (and bandwidth, for predictions of speed)"])
        if self.bytes <= 0:
            refuse([f"reserve: it must be smaller than the card's memory, {self.whole >> 20}MiB"])
        return self

    @property
    def whole(self) -> int:
        """Bytes that programs can use."""
        return mebibytes(self.memory) << 20 if self.memory else find(self.device or "").memory

    @property
    def bytes(self) -> int:
        """Bytes that the engine may use."""
        return self.whole - (mebibytes(self.reserve) << 20 if self.reserve else 0)


class Engine(Strict):
    """The engine that serves the models: Ollama, in a container without a way out."""

    accelerator: Annotated[Accelerator, words(Accelerator)] = Accelerator.CPU
    """What it computes on. `nvidia` needs NVIDIA's container toolkit on the host, `amd` the ROCm driver."""
    gpus: tuple[Gpu, ...] = Field(default=(), strict=False)
    """GPUs by index or NVIDIA UUID, as text; empty means all of them."""
    device_groups: tuple[Annotated[int, Field(ge=0, le=65535)], ...] = Field(default=(), strict=False)
    """With `amd`: ids of the host's groups that own its cards (`stat -c %g /dev/kfd /dev/dri/render*` on the host)."""
    instances: Annotated[int, Field(ge=1, le=8)] = 1
    """Identical engines that share the models; the gateway sends each request to the one with the least to do. GPUs are
    divided among them."""
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    """Requests that one model answers at the same time (slots)."""
    max_loaded_models: Annotated[int, Field(ge=1, le=32)] = 2
    """Models kept in memory at the same time."""
    keep_alive: DurationOrZero = "10m"
    """How long an idle model stays in memory."""
    context_length: Annotated[int, Field(ge=512, le=1_048_576)] = 4096
    """Tokens of context in each slot."""
    kv_cache: Annotated[KvCache, words(KvCache)] = KvCache.F16
    """Number format of the attention cache; a quantised one needs flashAttention."""
    flash_attention: bool = False
    """Faster attention with less memory, where the hardware has it."""
    queue: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Requests that may wait, beside the `parallel` ones that run, before the gateway says 429; for each instance."""
    load_timeout: Duration = "5m"
    """How long loading a model may take."""
    resources: Resources = Resources(memory="8GiB", cpus=2)
    hardware: tuple[Card, ...] = Field(default=(), strict=False)
    """The cards it computes on, in the order of `gpus`, so that `make up` can tell before anything is touched whether
    the models fit; unset is not checked. With accelerator `cpu` the memory limit is what has to do."""
    allow_oversize: Reason | None = None
    """Why models that do not fit are deployed all the same; unset refuses them."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = []
        if self.hardware and self.accelerator is Accelerator.CPU:
            problems.append("hardware: accelerator is cpu, which has no cards; set accelerator, or remove hardware")
        elif self.hardware and self.gpus and len(self.hardware) != len(self.gpus):
            problems.append(
                f"hardware: {len(self.hardware)} cards, and gpus has {len(self.gpus)}; each of them needs one"
            )
        elif len(self.hardware) % self.instances:
            problems.append(
                f"hardware: {len(self.hardware)} cards cannot be shared out evenly among {self.instances} instances"
            )
        if self.kv_cache is not KvCache.F16 and not self.flash_attention:
            problems.append(f"kvCache: {self.kv_cache} needs flashAttention: true")
        if self.accelerator is Accelerator.CPU and self.gpus:
            problems.append("gpus: accelerator is cpu; set accelerator to nvidia or amd, or remove gpus")
        if self.accelerator is Accelerator.AMD and any(not gpu.isdigit() for gpu in self.gpus):
            problems.append("gpus: with accelerator amd, GPUs are given by index")
        if (self.accelerator is Accelerator.AMD) != bool(self.device_groups):
            problems.append("deviceGroups: needed with accelerator amd, and only there")
        problems += [f"gpus: {gpu!r} is listed twice" for gpu in twice(self.gpus)]
        if self.accelerator is not Accelerator.CPU and self.instances > 1 and not self.gpus:
            problems.append(f"gpus: {self.instances} instances share the cards out, so list them by index or UUID")
        elif len(self.gpus) % self.instances:
            problems.append(
                f"instances: {len(self.gpus)} gpus cannot be shared out evenly among {self.instances} instances; "
                f"allowed: {', '.join(str(n) for n in range(1, 9) if len(self.gpus) % n == 0)}"
            )
        refuse(problems)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The containers of its instances, the one that is always there first."""
        return (OWN_ENGINE, *(f"{OWN_ENGINE}-{number}" for number in range(2, self.instances + 1)))

    @property
    def cards(self) -> tuple[Card, ...]:
        """Those of one instance, as the cards are shared out evenly; of unequal shares the one with least memory."""
        each = len(self.hardware) // self.instances
        shares = [self.hardware[each * number : each * (number + 1)] for number in range(self.instances)]
        return min(shares, key=lambda share: sum(card.bytes for card in share))

    @property
    def slots(self) -> int:
        """Requests that all instances together may have at the same time: each runs `parallel` and holds `queue`.

        Each instance's own queue is as long as this (`stack.inference.ollama`), so that it never overflows before the
        gateway says 429: not when nothing runs yet since the model is loading, nor when one instance is left for all.
        """
        return self.instances * (self.parallel + self.queue)


class UpstreamKind(StrEnum):
    """Which API an engine of your own speaks."""

    OPENAI = "openai"
    OLLAMA = "ollama"


class Upstream(Strict):
    """An engine that runs elsewhere and is never touched by us: vLLM on another box, LM Studio on the host, a cloud."""

    name: Name
    """What `models[].engine` calls it."""
    urls: tuple[EngineUrl, ...] = Field(min_length=1, strict=False)
    """Where it listens; several are identical ones, which the gateway balances over."""
    kind: Annotated[UpstreamKind, words(UpstreamKind)] = UpstreamKind.OPENAI
    """The API it speaks: `openai` (vLLM, LM Studio, LocalAI, llama.cpp) or `ollama`."""
    slots: Annotated[int, Field(ge=1, le=10_000)] = 16
    """Requests that all of these together may have at the same time, waiting ones among them, before the gateway says
    429."""
    key: bool = False
    """Whether it wants a key: the Pulumi secret `private-llm:engine-key-<name>`, sent as Bearer."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = []
        if self.name in OWN_NAMES:
            problems.append("name: the platform itself uses this name; choose another one")
        hosts = [urlsplit(url) for url in self.urls]
        if len({url.scheme for url in hosts}) > 1:
            problems.append("urls: identical engines are reached in the same way, all by http:// or all by https://")
        problems += [f"urls[{which}]: {why}" for which, url in enumerate(self.urls) if (why := _out_of_place(url))]
        problems += [f"urls: {url!r} is listed twice" for url in twice(self.urls)]
        refuse(problems)
        return self

    @property
    def addresses(self) -> tuple[str, ...]:
        """`host:port` of each."""
        return tuple(_address(url) for url in self.urls)

    @property
    def encrypted(self) -> bool:
        """Whether it is reached by https."""
        return self.urls[0].startswith("https:")


def _address(url: str) -> str:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _private(host: str) -> bool:
    """Whether a host is on a network of one's own: a private address, or a name without a domain."""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host


def _out_of_place(url: str) -> str | None:
    """Why the gateway cannot or must not reach an engine there, or None."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or (address and (address.is_loopback or address.is_unspecified)):
        return (
            "this is the gateway's own container; for an engine on this machine write this machine's address on its "
            "network"
        )
    if address and (address.is_link_local or address.is_multicast):
        return "no engine can be at such an address"
    if parts.scheme == "http" and not _private(host):
        return (
            "without encryption only on a network of yours: a private address such as 192.168.1.20, or a name without "
            "a domain; use https:// for others"
        )
    return None


class Model(Strict):
    """A model that the platform serves."""

    name: ModelName
    """As the engine's registry knows it."""
    role: Annotated[Role, words(Role)] = Role.CHAT
    """Whether it chats or embeds."""
    aliases: tuple[ModelName, ...] = Field(default=(), strict=False)
    """Names that clients may use instead; `default` is what the chat UI and `make ask` use."""
    digest: Digest | None = None
    """Manifest digest that the pulled model must have."""
    engine: Name | None = None
    """The one of `upstreams` that serves it; unset is the platform's own engine, which pulls it."""
    fallback: ModelName | None = None
    """Model or alias that answers instead when this one cannot: its engine fails, is overloaded, or the prompt is too
    long for it."""
    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Requests a minute over all consumers before 429; unset is no limit."""
    concurrent_requests: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Requests at the same time over all consumers before 429; unset is what its engine takes."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.engine and self.digest:
            refuse(["digest: only models that the platform pulls itself have one; remove it, or remove engine"])
        return self


class ChatFeatures(Strict):
    """Parts of the chat UI that reach out, run code or hand power to users: all off unless asked for."""

    web_search: bool = False
    """Search the web from a chat (the container has no way out: it also needs a search service of yours)."""
    code_execution: bool = False
    """Run Python that a model wrote, in the browser."""
    image_generation: bool = False
    """Generate images."""
    tools: bool = False
    """Let models use the chat UI's built-in tools; every chat model must then support tools."""
    api_keys: bool = False
    """Let users make API keys of the chat UI itself, beside those of the gateway."""


class Chat(Strict):
    """The chat UI: Open WebUI."""

    enabled: bool = True
    """Whether there is a chat UI at all; without it the platform is the API alone."""
    title: Title = "Private LLM"
    """Name in the browser's title."""
    admin_email: Email = "admin@localhost"
    """How the first administrator signs in; the password is generated (`make password`)."""
    sign_up: bool = False
    """Whether anybody may ask for an account, which then waits for the administrator; never with exposure `public`."""
    session: Duration = "7d"
    """How long a sign-in lasts."""
    features: ChatFeatures = ChatFeatures()
    resources: Resources = Resources(memory="2GiB", cpus=2)


class Memory(Strict):
    """The vector database behind document questions: ChromaDB."""

    enabled: bool = True
    """Needs a model with role embedding and the chat UI."""
    chunk_size: Annotated[int, Field(ge=100, le=8000)] = 1000
    """Characters in one stored passage."""
    chunk_overlap: Annotated[int, Field(ge=0, le=4000)] = 100
    """Characters that neighbouring passages share."""
    top_k: Annotated[int, Field(ge=1, le=50)] = 3
    """Passages handed to the model with a question."""
    resources: Resources = Resources(memory="1GiB", cpus=1)

    @model_validator(mode="after")
    def _overlap(self) -> Self:
        if self.chunk_overlap >= self.chunk_size:
            refuse([f"chunkOverlap: it must be smaller than chunkSize ({self.chunk_size})"])
        return self


class Observability(Strict):
    """Metrics: Prometheus, exporters, Grafana."""

    enabled: bool = True
    """Whether anything is measured."""
    retention: Duration = "30d"
    """How long Prometheus keeps its data."""
    scrape_interval: Duration = "15s"
    """How often each target is read."""
    grafana: bool = True
    """Dashboards, where the image can be had."""
    prometheus: Resources = Resources(memory="512MiB", cpus=1)
    """The most that Prometheus may use."""
    exporters: Resources = Resources(memory="64MiB", cpus=0.5)
    """The most that each exporter may use."""
    grafana_resources: Resources = Resources(memory="512MiB", cpus=1)
    """The most that Grafana may use."""

    @field_validator("scrape_interval")
    @classmethod
    def _not_too_often(cls, value: str) -> str:
        if value.endswith("ms"):
            raise ValueError("scrapes are at least 1s apart")
        return value


class Platform(Strict):
    """One environment, the value of `private-llm:platform` in `Pulumi.<stack>.yaml`."""

    gateway: Gateway = Gateway()
    engine: Engine = Engine()
    upstreams: tuple[Upstream, ...] = Field(default=(), strict=False)
    """Engines of yours that run elsewhere."""
    models: tuple[Model, ...] = Field(min_length=1, strict=False)
    """What is served. One chat model has the alias `default`."""
    consumers: tuple[Consumer, ...] = Field(min_length=1, strict=False)
    """Who may use the API. `chat` is the chat UI's own; `default` is the one of `make ask`."""
    chat: Chat = Chat()
    memory: Memory = Memory()
    services: tuple[OwnService, ...] = Field(default=(), strict=False)
    """Services of your own behind the gateway."""
    observability: Observability = Observability()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        served = [name for model in self.models for name in (model.name, *model.aliases)]
        names = [consumer.name for consumer in self.consumers]
        unique = "is there more than once; names and aliases are unique"
        problems = [f"models: {name!r} {unique}" for name in twice([name.removesuffix(":latest") for name in served])]
        problems += [f"consumers: {name!r} {unique}" for name in twice(names)]
        default = [model for model in self.models if "default" in (model.name, *model.aliases)]
        if not default or default[0].role is not Role.CHAT:
            problems.append("models: one model with role chat needs the alias `default`")
        allowed = ", ".join(sorted({"*", *served}))
        problems += [
            f"consumers[{who}].models[{which}]: not among the models; allowed: {allowed}"
            for who, consumer in enumerate(self.consumers)
            for which, name in enumerate(consumer.models)
            if name not in {"*", *served}
        ]
        if self.chat.enabled and CHAT_CONSUMER not in names:
            problems.append(f"consumers: the chat UI needs one named `{CHAT_CONSUMER}` (or set chat.enabled: false)")
        if self.uses_memory and not any(model.role is Role.EMBEDDING for model in self.models):
            problems.append("memory: documents need a model with role embedding; add one, or set memory.enabled: false")
        problems += [
            f"consumers[{which}].maxBody: it must not be larger than gateway.maxBody ({self.gateway.max_body})"
            for which, consumer in enumerate(self.consumers)
            if consumer.max_body and mebibytes(consumer.max_body) > mebibytes(self.gateway.max_body)
        ]
        problems += [*_engines(self), *_fallbacks(self.models), *_services(self)]
        problems += exposure.problems(
            self.gateway, self.consumers, sign_up=self.chat.sign_up, observability=self.observability.enabled
        )
        refuse(problems)
        return self

    @property
    def engine_keys(self) -> dict[str, str]:
        """Upstream -> the flat secret key of what it wants to be shown."""
        return {upstream.name: f"engine-key-{upstream.name}" for upstream in self.upstreams if upstream.key}

    def lacking(self, has: Callable[[str], bool]) -> list[str]:
        """What is wrong with the secrets that nobody can generate, one sentence each; `has` tells by flat key."""
        return [
            f"the engine {name!r} in upstreams wants a key, and there is none: `pulumi config set --secret "
            f'private-llm:{key}` asks for it (in a shell prepared by `eval "$(make -s env)"`)'
            for name, key in self.engine_keys.items()
            if not has(key)
        ]

    @property
    def uses_engine(self) -> bool:
        """Whether the platform's own engine serves any of the models."""
        return any(model.engine is None for model in self.models)

    @property
    def uses_memory(self) -> bool:
        """Documents are asked about from the chat UI only, so without it there is no vector database."""
        return self.chat.enabled and self.memory.enabled


def _engines(platform: Platform) -> Iterator[str]:
    """Problems of models with their engines, and of engines with each other."""
    known = [upstream.name for upstream in platform.upstreams]
    yield from (f"upstreams: {name!r} is there more than once; names are unique" for name in twice(known))
    for which, model in enumerate(platform.models):
        if model.engine and model.engine not in known:
            listed = f"; allowed: {', '.join(sorted(known))}" if known else ""
            yield f"models[{which}].engine: not among the upstreams{listed}"


def _fallbacks(models: Sequence[Model]) -> Iterator[str]:
    """Problems of models that answer for others."""
    named = {name: model for model in models for name in (model.name, *model.aliases)}
    for which, model in enumerate(models):
        if model.fallback is None:
            continue
        here = f"models[{which}].fallback"
        if model.role is Role.EMBEDDING:
            yield f"{here}: vectors of two models cannot be compared, so none can answer for another"
        elif model.fallback not in named:
            others = sorted(name for name, other in named.items() if other is not model)
            yield f"{here}: not among the models; allowed: {', '.join(others)}"
        elif named[model.fallback].role is not model.role:
            yield f"{here}: {model.fallback!r} has role {named[model.fallback].role}, this model {model.role}"
        elif model.name in (chain := _chain(model, named)):
            yield f"{here}: models would answer for each other in a circle ({' -> '.join([model.name, *chain])})"


def _chain(model: Model, named: Mapping[str, Model]) -> list[str]:
    """Names of the models that answer for one, in order, up to the first that is there again."""
    found: list[str] = []
    while model.fallback and model.fallback in named:
        model = named[model.fallback]
        if model.name in found:
            break
        found.append(model.name)
    return found


def _services(platform: Platform) -> Iterator[str]:
    """Problems of services of one's own with each other and with what they share names with."""
    services, consumers = platform.services, {consumer.name for consumer in platform.consumers}
    yield from (
        f"services: {name!r} is there more than once; names are unique" for name in twice([s.name for s in services])
    )
    upstreams = {upstream.name for upstream in platform.upstreams}
    for which, service in enumerate(services):
        here = f"services[{which}]"
        if service.name in upstreams:
            yield f"{here}.name: an upstream has this name too; names are unique"
        if service.api and service.name not in consumers:
            yield f"{here}.api: it needs a consumer of its name; add `- name: {service.name}` to consumers"
        if service.name in consumers and not service.api:
            yield f"{here}.name: a consumer has this name too; set api: true if it is this service's"
        for other in services[:which]:
            first, second = f"{other.path}/", f"{service.path}/"
            if first.startswith(second) or second.startswith(first):
                yield f"{here}.path: it overlaps with {other.path!r} of {other.name}; a path leads to one place"
