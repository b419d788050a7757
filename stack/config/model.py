"""The configuration model: one frozen object per platform, every default spelt once, every refusal explained.

Pure: no Pulumi in here, so editors (JSON Schema), the reference in `docs/` and the tests use the same model.
Keys are camelCase in YAML and snake_case in Python.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from stack.config.texts import (
    Cores,
    Digest,
    Email,
    Gpu,
    Hostname,
    Loopback,
    ModelName,
    ModelRef,
    Moment,
    Name,
    Port,
    Title,
)
from stack.config.units import Duration, DurationOrZero, Size, mebibytes

CHAT_CONSUMER: Final = "chat"  # Open WebUI's own key: the chat is a consumer of the gateway like anyone


class Strict(BaseModel):
    """Frozen, closed and strict: a misspelt key or a number in quotes is refused, not guessed at."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _refuse(problems: list[str]) -> None:
    """Reports all that does not fit together, one line each: `<key path from here>: <what, how to fix it>`.

    A line may end with `; allowed: <word>, <word>`. `stack.config.explain` reads this form.
    """
    if problems:
        raise ValueError("\n".join(problems))


class Accelerator(StrEnum):
    """What the engine computes on."""

    CPU = "cpu"
    NVIDIA = "nvidia"
    AMD = "amd"


class Role(StrEnum):
    """What a model is for."""

    CHAT = "chat"
    EMBEDDING = "embedding"


class Scope(StrEnum):
    """What a key opens at the gateway."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"
    NATIVE = "native"


class KvCache(StrEnum):
    """Number format of the attention cache."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


def _enum(kind: type[StrEnum]) -> Any:
    """YAML carries text; strict mode would want the enum's own type."""
    return Field(strict=False, json_schema_extra={"enum": [str(member) for member in kind]})


class Resources(Strict):
    """The most that one container may use of its host."""

    memory: Size
    """Memory limit; swap is not used on top of it."""
    cpus: Cores
    """CPU limit, in cores."""


class Gateway(Strict):
    """The one service that publishes ports."""

    address: Loopback = "127.0.0.1"
    """The host's address that the ports are published on."""
    https_port: Port = 8443
    """Port of the chat and the API."""
    http_port: Port = 8080
    """Port that only redirects to HTTPS."""
    hostnames: tuple[Hostname, ...] = Field(default=("localhost",), min_length=1, strict=False)
    """Names the gateway answers to; the first one is in the URLs that are printed. Other names get 421."""
    max_body: Size = "32MiB"
    """Largest request body on the API."""
    max_upload: Size = "256MiB"
    """Largest document that the chat accepts."""
    resources: Resources = Resources(memory="256MiB", cpus=2)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = []
        if self.https_port == self.http_port:
            problems.append(f"httpPort: httpsPort is {self.https_port} too; they must differ")
        if mebibytes(self.max_body) * 4 > mebibytes(self.resources.memory):
            problems.append(
                f"maxBody: bodies are read into memory, so it must be at most a quarter of resources.memory "
                f"({self.resources.memory})"
            )
        _refuse(problems)
        return self


class Engine(Strict):
    """The engine that serves the models: Ollama, in a container without a way out."""

    accelerator: Annotated[Accelerator, _enum(Accelerator)] = Accelerator.CPU
    """What it computes on. `nvidia` needs NVIDIA's container toolkit on the host, `amd` the ROCm driver."""
    gpus: tuple[Gpu, ...] = Field(default=(), strict=False)
    """GPUs by index or NVIDIA UUID, as text; empty means all of them."""
    device_groups: tuple[Annotated[int, Field(ge=0, le=65535)], ...] = Field(default=(), strict=False)
    """With `amd`: ids of the host's groups that own its cards (`stat -c %g /dev/kfd /dev/dri/render*` on the host)."""
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    """Requests that one model answers at the same time (slots)."""
    max_loaded_models: Annotated[int, Field(ge=1, le=32)] = 2
    """Models kept in memory at the same time."""
    keep_alive: DurationOrZero = "10m"
    """How long an idle model stays in memory."""
    context_length: Annotated[int, Field(ge=512, le=1_048_576)] = 4096
    """Tokens of context in each slot."""
    kv_cache: Annotated[KvCache, _enum(KvCache)] = KvCache.F16
    """Number format of the attention cache; a quantised one needs flashAttention."""
    flash_attention: bool = False
    """Faster attention with less memory, where the hardware has it."""
    queue: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Requests that may wait in the engine before it refuses."""
    load_timeout: Duration = "5m"
    """How long loading a model may take."""
    resources: Resources = Resources(memory="8GiB", cpus=2)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = []
        if self.kv_cache is not KvCache.F16 and not self.flash_attention:
            problems.append(f"kvCache: {self.kv_cache} needs flashAttention: true")
        if self.accelerator is Accelerator.CPU and self.gpus:
            problems.append("gpus: accelerator is cpu; set accelerator to nvidia or amd, or remove gpus")
        if self.accelerator is Accelerator.AMD and any(not gpu.isdigit() for gpu in self.gpus):
            problems.append("gpus: with accelerator amd, GPUs are given by index")
        if (self.accelerator is Accelerator.AMD) != bool(self.device_groups):
            problems.append("deviceGroups: needed with accelerator amd, and only there")
        problems += [f"gpus: {gpu!r} is listed twice" for gpu in _twice(self.gpus)]
        _refuse(problems)
        return self


class Model(Strict):
    """A model that the platform serves."""

    name: ModelName
    """As the engine's registry knows it."""
    role: Annotated[Role, _enum(Role)] = Role.CHAT
    """Whether it chats or embeds."""
    aliases: tuple[ModelName, ...] = Field(default=(), strict=False)
    """Names that clients may use instead; `default` is what the chat UI and `make ask` use."""
    digest: Digest | None = None
    """Manifest digest that the pulled model must have."""


class Consumer(Strict):
    """Somebody with a key of their own."""

    name: Name
    """Its key is the Pulumi secret `private-llm:key-<name>`."""
    scopes: tuple[Annotated[Scope, _enum(Scope)], ...] = Field(
        default=(Scope.CHAT, Scope.EMBEDDINGS), min_length=1, strict=False
    )
    """What the key opens: `chat`, `embeddings`, `native` (Ollama's own API)."""
    models: tuple[ModelRef, ...] = Field(default=("*",), min_length=1, strict=False)
    """Models or aliases that it may use; `*` is all of them."""
    requests_per_minute: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Requests in any minute before 429; unset is no limit."""
    concurrent_streams: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Answers that may run at the same time before 429; unset is no limit."""
    expires: Moment | None = None
    """When the key stops working, with its time zone, for example 2027-01-31T00:00:00Z."""


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
            _refuse([f"chunkOverlap: it must be smaller than chunkSize ({self.chunk_size})"])
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
    models: tuple[Model, ...] = Field(min_length=1, strict=False)
    """What is served. One chat model has the alias `default`."""
    consumers: tuple[Consumer, ...] = Field(min_length=1, strict=False)
    """Who may use the API. `chat` is the chat UI's own; `default` is the one of `make ask`."""
    chat: Chat = Chat()
    memory: Memory = Memory()
    observability: Observability = Observability()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        served = [name for model in self.models for name in (model.name, *model.aliases)]
        names = [consumer.name for consumer in self.consumers]
        unique = "is there more than once; names and aliases are unique"
        problems = [f"models: {name!r} {unique}" for name in _twice([name.removesuffix(":latest") for name in served])]
        problems += [f"consumers: {name!r} {unique}" for name in _twice(names)]
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
        _refuse(problems)
        return self

    @property
    def uses_memory(self) -> bool:
        """Documents are asked about from the chat UI only, so without it there is no vector database."""
        return self.chat.enabled and self.memory.enabled
