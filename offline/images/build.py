"""Make every image that is missing, serve them, write the lock: the entry of this package."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any

from offline import registry
from offline.errors import OfflineError
from offline.gomod import Say, locked, scratch
from offline.images import debian, gateway, layers, ollama, packaged, python, recipes, service_base
from offline.images.job import Job
from offline.images.layers import Layer
from offline.images.recipes import RECIPES, Recipe
from offline.images.store import Store, canonical, replace_with
from offline.models import publish

SOURCE = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent


class Part:
    """What fills an image: the function, and everything that its result depends on.

    `alone` parts come out the same whatever the image below them holds.
    """

    def __init__(
        self, fill: Callable[[Job], None], *files: Path, extra: Callable[[], str] = lambda: "", alone: bool = False
    ) -> None:
        self.fill, self.files, self.extra, self.alone = fill, files, extra, alone

    def inputs(self) -> bytes:
        """The code and the files that the image is made from; comments and formatting of the code do not count."""
        module = sys.modules[self.fill.__module__]
        code = [code_of(module.__file__ or ""), code_of(str(HERE / "layers.py"))]
        return b"\0".join([*(text.encode() for text in code), *map(Path.read_bytes, self.files), self.extra().encode()])


@cache
def code_of(path: str) -> str:
    """A module without its comments and formatting."""
    return ast.unparse(ast.parse(Path(path).read_text()))


def gateway_imports() -> str:
    """The packages that the gateway's sources import: a change of them, not of the sources, makes the builder anew."""
    sources = gateway.gateway_sources(SOURCE / "images" / "gateway")
    return "\n".join(gateway.third_party(path.read_text() for path in sources))


PARTS: dict[str, Part] = {
    "base": Part(debian.base),
    "python": Part(python.interpreter),
    "service-base": Part(service_base.fill, service_base.LOCK),
    "ollama": Part(ollama.fill, alone=True),
    "gateway-builder": Part(
        gateway.fill,
        SOURCE / "images/gateway/go.mod",
        SOURCE / "images/gateway/go.sum",
        extra=gateway_imports,
        alone=True,
    ),
    "prometheus": Part(packaged.prometheus),
    "node-exporter": Part(packaged.node_exporter),
    "chroma": Part(python.chroma, HERE / "chroma.lock"),
    "open-webui": Part(python.open_webui, HERE / "open-webui.lock", HERE / "open-webui-start.sh"),
}
# Hidden parts of the mirror: the registry program that receives pushed models runs on this machine for seconds.
REGISTRY_PACKAGE = "docker-registry"
KEPT_RECORDS = 3


def ensure_images(cache: Path, docker_host: str | None, say: Say, only: Collection[str] | None = None) -> Path:
    """Have every image (or those named in `only`) and the stand-in models made and served; return the lock's path.

    What is there and made from the same recipe is left alone. `docker_host` is the engine that will run the
    mirror's container (None: the usual one). Raises OfflineError.
    """
    names = frozenset(only) if only is not None else frozenset(recipe.name for recipe in RECIPES)
    unknown = names - recipes.BY_NAME.keys() - {"models"}
    if unknown:
        raise OfflineError(f"no image is called {', '.join(sorted(unknown))}; there are {', '.join(recipes.BY_NAME)}")
    home, store = cache / "images", Store(cache / "images" / "registry")
    home.mkdir(parents=True, exist_ok=True)
    with locked(home / ".lock", say, "the images are being made by another run; waiting..."):
        remove_leftovers(cache, store)
        for recipe in recipes.in_order(names - {"models"}):
            ensure_image(recipe, cache, store, say)
        if only is None or "models" in names:
            ensure_models(cache, store, say)
        lock = lock_content(home, store)
        registry.ensure_registry(cache, docker_host, say, store, lock, lock_references(lock))
        path = home / "lock.json"
        text = json.dumps(lock, indent=2).encode() + b"\n"
        if not path.is_file() or path.read_bytes() != text:
            replace_with(path, text)
            store.sweep(lock_references(lock), layers_made(home))
    return path


def remove_leftovers(cache: Path, store: Store) -> None:
    """Remove what a killed run left half-made; nobody else is at work, since the lock is held."""
    for folder in scratch(cache).glob("image-*"):
        debian.unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)
    for file in store.root.glob(".layer-*"):
        file.unlink()


def layers_made(home: Path) -> frozenset[str]:
    """The digests of all layers and all models' manifests that the records name."""
    layers = {json.loads(path.read_bytes())["digest"] for path in (home / "made").glob("*.json")}
    models = [json.loads(path.read_bytes()) for path in (home / "made").glob("models-*.recipe")]
    return frozenset(layers | {digest for record in models for digest in record.values()})


def lock_references(lock: dict[str, Any]) -> list[str]:
    """Everything that a lock names, as repository:tag inside the mirror."""
    images = [image.split("/", 1)[1].split("@")[0] for image in lock["images"].values()]
    return images + [model["from"].split("/", 1)[1] for model in lock["models"].values()]


def recipe_hash(recipe: Recipe) -> str:
    """Changes exactly when the image's own layer has to be made again."""
    part = PARTS[recipe.name]
    parent = recipe_hash(recipes.BY_NAME[recipe.parent]) if recipe.parent and not part.alone else ""
    run = repr((recipe.owners, recipe.name, recipe.version))
    return hashlib.sha256(b"\0".join([part.inputs(), parent.encode(), run.encode()])).hexdigest()


def ensure_image(recipe: Recipe, cache: Path, store: Store, say: Say) -> None:
    """Make one image's own layer if it is missing, and its manifest (which is quick, and follows the recipe's data)."""
    home, wanted = cache / "images", recipe_hash(recipe)
    if not made(home, store, recipe, wanted):
        say(f"making image {recipe.name} {recipe.version} from packages (about {recipe.minutes:g} min)...")
        started = time.monotonic()
        layer = make_layer(recipe, cache, store, say)
        record = {"recipe": wanted, "digest": layer.digest, "diff_id": layer.diff_id, "size": layer.size}
        replace_with(record_path(home, recipe), canonical(record))
        record_path(home, recipe).touch()  # from the fixed time that the store gives to now
        forget_old(home, recipe.name)
        say(f"made image {recipe.name} in {time.monotonic() - started:.0f} s ({layer.size / 1e6:.0f} MB)")
    record_path(home, recipe).touch()
    if recipe.published:
        layers_below = [stored_layer(home, each) for each in recipes.lineage(recipe.name)]
        digest = store.tagged(recipe.reference)
        fresh = hashlib.sha256(json.dumps([repr(recipe), repr(layers_below)]).encode()).hexdigest()
        mark = home / "made" / f"{recipe.name}.tag"
        if digest is None or not store.complete(digest) or not mark.is_file() or mark.read_text() != fresh:
            store.tag(recipe, layers_below)
            replace_with(mark, fresh.encode())


def make_layer(recipe: Recipe, cache: Path, store: Store, say: Say) -> Layer:
    """Fill a scratch folder by the image's part and pack it; nothing is left behind, also after Ctrl-C."""
    work = Path(tempfile.mkdtemp(prefix=f"image-{recipe.name}-", dir=scratch(cache)))
    try:
        # mkdtemp makes folders for their owner alone; this one becomes the root of a container
        root = work / "root"
        root.mkdir(mode=0o755)
        log = cache / "logs" / f"image-{recipe.name}.log"
        job = Job(cache=cache, work=work, root=root, apt=cache / "images" / "apt", source=SOURCE, log=log, say=say)
        if recipe.name != "base" and not job.apt.is_dir():
            raise OfflineError(f"{job.apt} is missing: it comes with the base image; run the same command again")
        PARTS[recipe.name].fill(job)
        return store.put_layer(root, recipe, keep_owners=recipe.name == "base")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def record_path(home: Path, recipe: Recipe) -> Path:
    """Where an image's layer is recorded; one record per recipe, so that two checkouts can share a cache."""
    return home / "made" / f"{recipe.name}-{recipe_hash(recipe)[:12]}.json"


def forget_old(home: Path, name: str) -> None:
    """Keep the records of an image that were used last; the store drops what no record names."""
    records = sorted((home / "made").glob(f"{name}-{'?' * 12}.*"), key=lambda path: path.stat().st_mtime)
    for path in records[:-KEPT_RECORDS]:
        path.unlink()


def made(home: Path, store: Store, recipe: Recipe, wanted: str) -> bool:
    """True when the layer is in the store and comes from the recipe `wanted`."""
    try:
        record = json.loads(record_path(home, recipe).read_bytes())
    except (OSError, ValueError):
        return False
    if recipe.name == "base" and not (home / "apt").is_dir():
        return False
    return bool(record.get("recipe") == wanted and store.has(record["digest"]))


def stored_layer(home: Path, recipe: Recipe) -> Layer:
    """The layer that a recipe was made into."""
    record = json.loads(record_path(home, recipe).read_bytes())
    return Layer(record["digest"], record["diff_id"], record["size"])


def ensure_models(cache: Path, store: Store, say: Say) -> None:
    """Have the stand-in models in the store, made by the very engine that will serve them."""
    home, engine_recipe = cache / "images", recipe_hash(recipes.BY_NAME["ollama"])
    wanted = publish.recipe(engine_recipe)
    record = home / "made" / f"models-{wanted[:12]}.recipe"
    if publish.select(store, record):
        return
    ensure_image(recipes.BY_NAME["base"], cache, store, say)
    ensure_image(recipes.BY_NAME["ollama"], cache, store, say)
    with tempfile.TemporaryDirectory(prefix="models-", dir=scratch(cache)) as folder:
        work = Path(folder)
        layer = stored_layer(home, recipes.BY_NAME["ollama"])
        engine = layers.extract(store.blob(layer.digest), "usr/bin/ollama", work / "ollama")
        (work / "root").mkdir()
        job = Job(
            cache=cache,
            work=work,
            root=work / "root",
            apt=home / "apt",
            source=SOURCE,
            log=cache / "logs" / "models.log",
            say=say,
        )
        debian.unpack(job, (REGISTRY_PACKAGE,), job.root)
        registry_program = job.root / "usr" / "bin" / "docker-registry"
        publish.publish(store, engine, registry_program, record, cache / "logs" / "models.log", say)
        forget_old(home, "models")


def lock_content(home: Path, store: Store) -> dict[str, Any]:
    """What the program needs to know: every image by digest, every model with where and how it is pulled."""
    images = {
        recipe.name: f"{registry.ADDRESS}/{recipe.reference}@{digest}"
        for recipe in RECIPES
        if recipe.published and (digest := store.tagged(recipe.reference)) and store.complete(digest)
    }
    models = {
        model.role: {
            "name": model.name,
            "from": f"{registry.MODELS_ADDRESS}/{model.reference}",
            "digest": digest,
            "insecure": True,
            "network": registry.NETWORK,
            "note": model.note,
        }
        for model in publish.MODELS
        if (digest := store.tagged(model.reference)) and store.complete(digest)
    }
    return {"source": "mirror", "images": images, "models": models}
