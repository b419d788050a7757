"""The container images of the package-mirror path, as data: what each stands for and how it is run.

Every recipe keeps the official image's ports, paths, user, entrypoint, command and owner of its data path, so that one
program serves both. What the files of an image are made from is in `offline.images.parts`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stack.versions import IMAGES

REPOSITORY = "private-llm"
NOBODY = 65534


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One image. `parent` is the recipe whose layers come first; `health` exits 0 in a healthy container.

    `owners` are paths that do not belong to root; `minutes` is a cold build on two cores, for the progress line;
    `published` is False for a layer that only others are built on; `missing` says what the official image has more.
    """

    name: str
    version: str
    stands_for: str
    minutes: float
    parent: str | None = None
    user: str = ""
    workdir: str = ""
    env: dict[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    data: tuple[str, ...] = ()
    owners: dict[str, int] = field(default_factory=dict)
    health: tuple[str, ...] = ()
    published: bool = True
    missing: str = ""

    @property
    def reference(self) -> str:
        """Repository and tag inside the registry."""
        return f"{REPOSITORY}/{self.name}:{self.version}"


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="base",
        version="12",
        stands_for=IMAGES["base"],
        minutes=1,
        env={"PATH": PATH},
        cmd=("bash",),
        health=("true",),
    ),
    Recipe(
        name="python",
        version="3.11",
        stands_for="python:3.11-slim-bookworm",
        minutes=0.2,
        parent="base",
        env={"PATH": PATH},
        published=False,
    ),
    Recipe(
        name="service-base",
        version="3.11",
        stands_for=IMAGES["service-base"],
        minutes=0.3,
        parent="python",
        env={"PATH": PATH, "PYTHONDONTWRITEBYTECODE": "1"},
        cmd=("python3",),
        health=("python3", "-c", "import fastapi, openai, uvicorn"),
        missing="pip; it has the packages of examples/fastapi and no others",
    ),
    Recipe(
        name="ollama",
        version="0.17.4",
        stands_for=IMAGES["ollama"],
        minutes=5,
        parent="base",
        env={"PATH": PATH, "OLLAMA_HOST": "0.0.0.0:11434"},
        entrypoint=("/bin/ollama",),
        cmd=("serve",),
        ports=(11434,),
        data=("/root/.ollama",),
        health=("ollama", "list"),
        missing="GPU libraries (CPU only, needs AVX2)",
    ),
    Recipe(
        name="gateway-builder",
        version="1.26",
        stands_for=IMAGES["gateway-builder"],
        minutes=3,
        parent="base",
        env={
            "PATH": f"/go/bin:/usr/local/go/bin:{PATH}",
            "GOPATH": "/go",
            "GOTOOLCHAIN": "local",
            "GOPROXY": "off",
            "GOSUMDB": "off",
            "CGO_ENABLED": "0",
        },
        workdir="/go",
        cmd=("bash",),
        health=("go", "version"),
        missing="a C compiler, git; the module cache holds the gateway's modules only",
    ),
    Recipe(
        name="prometheus",
        version="2.42.0",
        stands_for=IMAGES["prometheus"],
        minutes=0.2,
        parent="base",
        env={"PATH": PATH},
        user="nobody",
        workdir="/prometheus",
        entrypoint=("/bin/prometheus",),
        cmd=("--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"),
        ports=(9090,),
        data=("/prometheus",),
        owners={"prometheus": NOBODY, "etc/prometheus": NOBODY},
        health=("wget", "-q", "-O", "/dev/null", "http://127.0.0.1:9090/-/ready"),
    ),
    Recipe(
        name="node-exporter",
        version="1.5.0",
        stands_for=IMAGES["node-exporter"],
        minutes=0.2,
        parent="base",
        env={"PATH": PATH},
        user="nobody",
        entrypoint=("/bin/node_exporter",),
        ports=(9100,),
        health=("wget", "-q", "-O", "/dev/null", "http://127.0.0.1:9100/"),
    ),
    Recipe(
        name="chroma",
        version="1.5.9",
        stands_for=IMAGES["chroma"],
        minutes=0.5,
        parent="python",
        env={"PATH": PATH, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp"},
        entrypoint=("chroma",),
        cmd=("run", "/config.yaml"),
        ports=(8000,),
        data=("/data",),
        workdir="/",
        health=(
            "/bin/bash",
            "-c",
            r"exec 3<>/dev/tcp/127.0.0.1/8000; printf 'GET /api/v2/heartbeat HTTP/1.0\r\n\r\n' >&3; grep -q 200 <&3",
        ),
    ),
    Recipe(
        name="open-webui",
        version="0.12.4",
        stands_for=IMAGES["open-webui"],
        minutes=2,
        parent="python",
        env={
            "PATH": PATH,
            "ENV": "prod",
            "PORT": "8080",
            "HOME": "/root",
            "DOCKER": "true",
            "OLLAMA_BASE_URL": "/ollama",
            "OPENAI_API_BASE_URL": "",
            "OPENAI_API_KEY": "",
            "WEBUI_SECRET_KEY": "",
            "SCARF_NO_ANALYTICS": "true",
            "DO_NOT_TRACK": "true",
            "ANONYMIZED_TELEMETRY": "false",
            "HF_HOME": "/app/backend/data/cache/embedding/models",
            "TIKTOKEN_CACHE_DIR": "/app/backend/data/cache/tiktoken",
            "PYTHONPATH": "/app/site",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        workdir="/app/backend",
        cmd=("bash", "start.sh"),
        ports=(8080,),
        data=("/app/backend/data",),
        health=(
            "bash",
            "-c",
            "curl --silent --fail http://localhost:${PORT:-8080}/health | jq -ne 'input.status == true'",
        ),
        missing="local embedding, reranking, speech and OCR models (no torch); an engine serves embeddings instead",
    ),
)

BY_NAME = {recipe.name: recipe for recipe in RECIPES}


def lineage(name: str) -> tuple[Recipe, ...]:
    """A recipe after those it is built on, root first."""
    recipe = BY_NAME[name]
    return (*lineage(recipe.parent), recipe) if recipe.parent else (recipe,)


def in_order(names: frozenset[str]) -> tuple[Recipe, ...]:
    """The recipes of these names and all they are built on, each once, parents first."""
    wanted = {recipe.name for name in names for recipe in lineage(name)}
    return tuple(recipe for recipe in RECIPES if recipe.name in wanted)
