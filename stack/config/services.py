"""Services of one's own behind the gateway: what runs, where it is found, and what it may not be called. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from stack.config.resources import Resources
from stack.config.strict import Strict, refuse
from stack.config.texts import EnvName, Folder, Image, Name, Path, Port

# What the platform's own containers, images and consumers are called: a second one of that name would be another's.
OWN_NAMES: Final = frozenset({
    "base", "chat", "chroma", "default", "gateway", "gateway-builder", "gpu-exporter", "grafana", "model-pull",
    "node-exporter", "ollama", "ollama-rocm", "open-webui", "prometheus", "service-base",
})  # fmt: skip
_OWN_FORMS: Final = re.compile(r"^ollama-[0-9]+$|-(seed|owner|model-pull)$")

# First words of the paths that the gateway answers itself or that belong to the chat UI.
OWN_PATHS: Final = frozenset({
    "admin", "api", "assets", "audio", "auth", "automations", "c", "cache", "calendar", "channels", "docs", "error",
    "folders", "grafana", "health", "home", "licenses", "live", "m", "metrics", "notes", "oauth", "ollama", "openai",
    "playground", "prometheus", "pyodide", "s", "services", "static", "themes", "v1", "wasm", "watch", "workspace",
    "ws",
})  # fmt: skip

# Set by the platform for services that use the models.
API_SETTINGS: Final = ("OPENAI_BASE_URL", "OPENAI_API_KEY")
_SECRET_SETTING: Final = re.compile(r"_(KEY|KEYS|PASSWORD|SECRET|TOKEN)$")


class OwnService(Strict):
    """A service of yours behind the gateway, with its keys, limits and hardening."""

    name: Name
    """Name of its container, and of its consumer if it has one."""
    image: Image | None = None
    """What runs, by digest; or `build`."""
    build: Folder | None = None
    """Folder with a Dockerfile, relative to the project; or `image`. The build argument `BASE_IMAGE` is the platform's
    Python image."""
    port: Port
    """Port that it listens on inside its container."""
    path: Path
    """Where it is at the gateway; everything below goes to it, without this prefix."""
    public: bool = False
    """Whether it is open without a key of scope `services`."""
    api: bool = False
    """Whether it uses the models: it then gets a base URL and the key of the consumer of its name
    (`OPENAI_BASE_URL`, `OPENAI_API_KEY`)."""
    health: Annotated[str, Field(pattern=r"^/[A-Za-z0-9/_.-]*$")] = "/health"
    """Path that answers 200 when it is well; asked inside the container by its curl, wget, python3 or node."""
    metrics: Annotated[str, Field(pattern=r"^/[A-Za-z0-9/_.-]*$")] | None = None
    """Path of its Prometheus metrics; unset is none."""
    env: dict[EnvName, str] = Field(default_factory=dict)
    """Settings; not for secrets."""
    resources: Resources = Resources(memory="512MiB", cpus=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        problems = []
        if (self.image is None) == (self.build is None):
            problems.append("image: give either image or build")
        if self.name in OWN_NAMES or _OWN_FORMS.search(self.name):
            problems.append("name: the platform itself uses this name; choose another one")
        if self.path.split("/")[1] in OWN_PATHS:
            problems.append("path: paths that start so belong to the gateway or the chat UI; choose another one")
        problems += [
            f"env: {name} is set by the platform where api is true; remove it"
            for name in API_SETTINGS
            if self.api and name in self.env
        ]
        problems += [
            f"env: {name} sounds like a secret, and these settings are kept in clear text; leave it out"
            for name in self.env
            if _SECRET_SETTING.search(name)
        ]
        refuse(problems)
        return self
