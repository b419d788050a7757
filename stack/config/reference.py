"""The configuration reference in Markdown, generated from the model so that it cannot drift from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from stack.config import forms

EXAMPLE: Final = """\
# yaml-language-server: $schema=stack/config/schema.json
config:
  private-llm:platform:
    gateway:
      exposure: private
      address: 192.168.1.10
      httpsPort: 443
      httpPort: 80
      hostnames: [llm.home.arpa]
      chatHostnames: [chat.home.arpa]
      apiHostnames: [api.home.arpa]
      trustedProxies: [172.16.0.0/12]
      tls:
        mode: acme
        email: admin@example.org
        directory: https://ca.home.arpa/acme/directory
      cors:
        origins: ["https://app.home.arpa"]
      limits:
        api: {events: 30, per: 1m, burst: 10}
        chat: {events: 10, per: 1s, burst: 20}
        signIn: {events: 10, per: 1m, burst: 5}
        failures: {events: 10, per: 10m, burst: 0}
        ban: 1m
        longestBan: 1h
      admin: local
      adminPort: 9443
      maxBody: 32MiB
      maxUpload: 256MiB
      resources: {memory: 256MiB, cpus: 2}
    engine:
      accelerator: nvidia
      gpus: ["0", "1"]
      deviceGroups: []
      instances: 2
      parallel: 4
      maxLoadedModels: 2
      keepAlive: 10m
      contextLength: 8192
      kvCache: q8_0
      flashAttention: true
      queue: 64
      loadTimeout: 5m
      resources: {memory: 32GiB, cpus: 8}
      hardware:
        - {device: nvidia-rtx-4090, reserve: 512MiB}
        - {memory: 24GiB, bandwidth: 1008}
      allowOversize: the large model is used at night, slowly
    upstreams:
      - name: big-box
        urls: ["http://192.168.1.20:8000", "http://192.168.1.21:8000"]
        kind: openai
        slots: 64
        key: true
    models:
      - name: qwen3:8b
        role: chat
        aliases: [default]
        concurrentRequests: 8
        requestsPerMinute: 600
      - name: Qwen/Qwen3-32B
        aliases: [powerful]
        engine: big-box
        fallback: default
      - name: qwen3:0.6b
        aliases: [fast]
      - name: all-minilm
        role: embedding
        aliases: [embedding]
        digest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    consumers:
      - name: default
        scopes: [chat, embeddings, native]
      - name: chat
      - name: nightly-job
        scopes: [chat]
        models: [fast]
        requestsPerMinute: 30
        burst: 5
        concurrentStreams: 2
        tokensPerMinute: 20000
        tokensPerDay: 1000000
        maxOutputTokens: 2048
        maxBody: 1MiB
        maxDuration: 5m
        expires: "2027-01-31T00:00:00Z"
      - name: reports
    chat:
      enabled: true
      title: Private LLM
      adminEmail: admin@example.org
      signUp: false
      session: 7d
      features:
        webSearch: false
        codeExecution: false
        imageGeneration: false
        tools: false
        apiKeys: false
      resources: {memory: 2GiB, cpus: 2}
    memory:
      enabled: true
      chunkSize: 1000
      chunkOverlap: 100
      topK: 3
      resources: {memory: 1GiB, cpus: 1}
    services:
      - name: reports
        build: services/reports
        port: 8000
        path: /reports
        public: false
        api: true
        health: /health
        metrics: /metrics
        env: {LOG_LEVEL: info}
        resources: {memory: 512MiB, cpus: 1}
      - name: status-page
        image: ghcr.io/you/status@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
        port: 8080
        path: /status
        public: true
    observability:
      enabled: true
      retention: 30d
      scrapeInterval: 15s
      grafana: true
      prometheus: {memory: 512MiB, cpus: 1}
      exporters: {memory: 64MiB, cpus: 0.5}
      grafanaResources: {memory: 512MiB, cpus: 1}
"""

_HEAD: Final = """\
# Configuration

<!-- Generated from stack/config/model.py by `python -m stack.config.schema`; a test fails when it is stale. -->

Everything a stack is made of stands in `Pulumi.<stack>.yaml`, in the one object `private-llm:platform`. Only
`models` and `consumers` are required: a key that is left out has the default below. The first line of the file
lets editors complete and check it (`stack/config/schema.json`).

Anything else is refused before a resource is touched: unknown keys, wrong types, values out of range and
combinations that cannot work, all at once, each with its key path, what is allowed and the nearest valid spelling.
"""

_TAIL: Final = """\
## Secrets

Secrets are flat keys beside the object, encrypted by Pulumi. `make up` generates those that are not there; set one
yourself with `pulumi config set --secret <key>`, which asks for the value (in a shell prepared by
`eval "$(make -s env)"`).

| Key | Meaning |
|---|---|
| `private-llm:key-<consumer>` | The API key of that consumer (`make key NAME=<consumer>`). |
| `private-llm:previous-key-<consumer>` | The key before, until `private-llm:overlap-<consumer>` (not secret). |
| `private-llm:basic-<consumer>` | Hash of a password of its own choice (`make basic NAME=<consumer>`). |
| `private-llm:tls-key` | Key of `private-llm:tls-certificate` (not secret, with its chain); both PEM. |
| `private-llm:engine-key-<upstream>` | The key that the engine of that name in `upstreams` wants; never generated. |
| `private-llm:admin-password` | Password of the chat's first administrator (`make password` shows it). |
| `private-llm:webui-secret-key` | What the chat signs its sessions with. |
| `private-llm:ca-key` | Key of the root certificate. `private-llm:ca-certificate` is its certificate, not secret. |
"""


def render() -> str:
    """The whole page."""
    schema = forms.platform_schema()
    sections = _sections(schema, "")
    rows = [
        f"| [`{path}`](#{_anchor(path)}) | {_cell(forms.resolve(node).get('description', ''))} |"
        for path, node in sections
    ]
    overview = ["## Sections", "", "| Section | Meaning |", "|---|---|", *rows]
    tables = [_table(path, node) for path, node in sections]
    example = f"## A complete example\n\nEvery key there is.\n\n```yaml\n{EXAMPLE}```\n"
    return "\n".join([_HEAD, *overview, "", *tables, _TAIL, example])


def _sections(node: forms.Node, path: str) -> list[tuple[str, forms.Node]]:
    """Every group of keys with its own table; `resources` and its like share one."""
    found: list[tuple[str, forms.Node]] = []
    for name, inner in forms.resolve(node).get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        group = forms.resolve(inner)
        if group.get("type") == "array" and "properties" in forms.resolve(group["items"]):
            found.append((f"{here}[]", {**forms.resolve(group["items"]), "description": group["description"]}))
        elif "properties" in group and not _is_resources(group):
            found += [(here, group), *_sections(group, here)]
    if not path:
        found.append(("resources", {"$ref": "#/$defs/Resources"}))
    return found


def _is_resources(group: forms.Node) -> bool:
    return set(group.get("properties", ())) == {"memory", "cpus"}


def _anchor(path: str) -> str:
    return "".join(letter for letter in path.lower() if letter.isalnum())


def _table(path: str, node: forms.Node) -> str:
    group = forms.resolve(node)
    rows = [
        f"| `{name}` | {_allowed(inner)} | {_default(group, name)} | {_meaning(path, name, inner)} |"
        for name, inner in group["properties"].items()
    ]
    title = [f'## <a id="{_anchor(path)}"></a>`{path}`', "", _cell(group.get("description", "")), ""]
    return "\n".join([*title, "| Key | Allowed | Default | Meaning |", "|---|---|---|---|", *rows, ""])


def _allowed(node: forms.Node) -> str:
    group = forms.resolve(node)
    if _is_resources(group):
        return "[resources](#resources)"
    return "a group of keys" if "properties" in group else _cell(forms.describe(node))


def _default(group: forms.Node, name: str) -> str:
    if name in group.get("required", ()):
        return "**required**"
    value = group["properties"][name].get("default")
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        shown = ", ".join(f"{key}: {_plain(inner)}" for key, inner in value.items())
        return f"`{{{shown}}}`" if len(value) <= 2 else "as below"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)


def _meaning(path: str, name: str, node: forms.Node) -> str:
    inner = forms.resolve(node)
    if "properties" in inner and not _is_resources(inner):
        return f"See [`{path}.{name}`](#{_anchor(f'{path}.{name}')})."
    return _cell(inner.get("description", ""))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
