"""The pure parts of making images from packages: layers, the store, recipes, the lock, the stand-in models."""

import gzip
import hashlib
import io
import json
import os
import struct
import tarfile
from pathlib import Path

import pytest

from offline import registry
from offline.errors import OfflineError
from offline.images import build, debian, gateway, layers, recipes, service_base
from offline.images.recipes import BY_NAME, RECIPES, Recipe
from offline.images.store import Store
from offline.models import chat, embed, gguf, publish, words
from tests.support.samples import ROOT

pytestmark = pytest.mark.unit

TINY = Recipe(name="tiny", version="1", stands_for="nothing", minutes=0, owners={"data": 65534})


def packed(root: Path) -> tuple[layers.Layer, bytes]:
    out = io.BytesIO()
    return layers.write_layer(root, out, TINY.owners), out.getvalue()


def tree(root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    (root / "data" / "file").write_text("hello")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("run.sh")
    return root


class TestLayer:
    def test_same_files_give_the_same_bytes_whatever_their_times(self, tmp_path: Path) -> None:
        first, second = tree(tmp_path / "a"), tree(tmp_path / "b")
        (second / "run.sh").touch()
        assert packed(first) == packed(second)

    def test_digests_are_those_of_the_bytes(self, tmp_path: Path) -> None:
        layer, data = packed(tree(tmp_path / "a"))
        assert layer.digest == "sha256:" + hashlib.sha256(data).hexdigest()
        assert layer.diff_id == "sha256:" + hashlib.sha256(gzip.decompress(data)).hexdigest()
        assert layer.size == len(data)

    def test_all_belongs_to_root_but_the_named_data(self, tmp_path: Path) -> None:
        _, data = packed(tree(tmp_path / "a"))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = {member.name: (member.uid, member.mode, member.mtime) for member in archive}
        assert found["data"][0] == found["data/file"][0] == 65534
        assert found["run.sh"] == (0, 0o755, layers.EPOCH)

    def test_unpacked_packages_never_hide_the_base_links_to_usr(self, tmp_path: Path) -> None:
        (tmp_path / "lib" / "x").mkdir(parents=True)
        (tmp_path / "lib" / "x" / "one.so").write_text("")
        (tmp_path / "usr" / "lib" / "x").mkdir(parents=True)
        layers.merge_usr(tmp_path)
        assert (tmp_path / "usr/lib/x/one.so").is_file()
        assert not (tmp_path / "lib").exists()

    def test_one_file_comes_out_again(self, tmp_path: Path) -> None:
        _, data = packed(tree(tmp_path / "a"))
        (tmp_path / "layer").write_bytes(data)
        assert layers.extract(tmp_path / "layer", "data/file", tmp_path / "out").read_text() == "hello"
        with pytest.raises(KeyError, match="nothing"):
            layers.extract(tmp_path / "layer", "nothing", tmp_path / "out")


class TestStore:
    def test_an_image_is_complete_until_a_blob_is_lost(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store")
        layer = store.put_layer(tree(tmp_path / "a"), TINY)
        digest = store.tag(TINY, [layer])
        assert store.tagged(TINY.reference) == digest
        assert store.complete(digest)
        store.blob(layer.digest).unlink()
        assert not store.complete(digest)

    def test_everything_served_is_listed_and_exists(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store")
        store.tag(TINY, [store.put_layer(tree(tmp_path / "a"), TINY)])
        files = list(store.files_of(TINY.reference))
        assert len(files) == 5  # configuration, layer, manifest, two links
        assert all(path.is_file() for path in files)
        assert list(store.files_of("private-llm/other:1")) == []

    def test_the_same_image_again_is_the_same_digest(self, tmp_path: Path) -> None:
        digests = set()
        for name in ("one", "two"):
            store = Store(tmp_path / name)
            digests.add(store.tag(TINY, [store.put_layer(tree(tmp_path / f"{name}-tree"), TINY)]))
        assert len(digests) == 1

    def test_sweeping_keeps_what_is_served_and_what_was_made(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store")
        digest = store.tag(TINY, [store.put_layer(tree(tmp_path / "a"), TINY)])
        old, made = store.put(b"old"), store.put(b"a layer that no image has yet")
        store.sweep([TINY.reference], {made})
        assert store.complete(digest)
        assert store.has(made)
        assert not store.has(old)

    def test_a_failed_layer_leaves_nothing(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store")
        with pytest.raises(FileNotFoundError):
            store.put_layer(tmp_path / "missing", TINY)
        assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


class TestRecipes:
    def test_parents_come_first(self) -> None:
        names = [recipe.name for recipe in RECIPES]
        for recipe in RECIPES:
            if recipe.parent:
                assert names.index(recipe.parent) < names.index(recipe.name)

    def test_every_recipe_has_a_part_and_every_part_a_recipe(self) -> None:
        assert build.PARTS.keys() == BY_NAME.keys()

    def test_published_images_say_how_their_health_is_asked(self) -> None:
        assert [recipe.name for recipe in RECIPES if recipe.published and not recipe.health] == []

    def test_versions_are_those_of_the_official_images_where_packages_have_them(self) -> None:
        """Open WebUI's client is pinned to Chroma's version: both move together, here as there."""
        for name in ("base", "gateway-builder", "open-webui", "chroma"):
            assert BY_NAME[name].version in BY_NAME[name].stands_for

    def test_one_name_brings_what_it_is_built_on(self) -> None:
        assert [recipe.name for recipe in recipes.in_order(frozenset({"chroma"}))] == ["base", "python", "chroma"]

    def test_a_changed_parent_changes_its_children_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = {recipe.name: build.recipe_hash(recipe) for recipe in RECIPES}
        part = build.PARTS["python"]
        monkeypatch.setitem(build.PARTS, "python", build.Part(part.fill, *part.files, extra=lambda: "changed"))
        after = {recipe.name: build.recipe_hash(recipe) for recipe in RECIPES}
        assert {name for name in before if before[name] != after[name]} == {
            "python",
            "service-base",
            "chroma",
            "open-webui",
        }

    def test_own_services_find_the_packages_of_the_example(self) -> None:
        assert service_base.LOCK.read_bytes() == (ROOT / "examples/fastapi/requirements.lock").read_bytes()

    def test_only_the_records_used_last_are_kept(self, tmp_path: Path) -> None:
        (tmp_path / "made").mkdir()
        for number in range(5):
            path = tmp_path / "made" / f"chroma-{number:012}.json"
            path.write_text("{}")
            os.utime(path, (number, number))
        build.forget_old(tmp_path, "chroma")
        left = sorted(path.name for path in (tmp_path / "made").iterdir())
        assert left == [f"chroma-{number:012}.json" for number in (2, 3, 4)]

    def test_an_unknown_name_is_refused_with_the_known_ones(self, tmp_path: Path) -> None:
        with pytest.raises(OfflineError, match="no image is called grafana; there are base"):
            build.ensure_images(tmp_path, None, print, only=["grafana"])


class TestGateway:
    def test_third_party_imports_are_found(self) -> None:
        source = (
            'package x\n\nimport (\n\t"net/http"\n\n\tcaddy "github.com/caddyserver/caddy/v2"\n)\n\nvar a = "b.c/d"\n'
        )
        assert gateway.third_party([source, 'import _ "go.uber.org/zap"\n']) == [
            "github.com/caddyserver/caddy/v2",
            "go.uber.org/zap",
        ]

    def test_only_what_is_imported_or_embedded_stays_and_no_folder_goes(self, tmp_path: Path) -> None:
        for name in ("m@v1/a/a.go", "m@v1/a/a_test.go", "m@v1/a/x/page.html", "m@v1/b/b.go", "m@v1/go.mod", "cache/l"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("")
        gateway.prune(tmp_path, gateway.needed_paths(f"{tmp_path}/m@v1/a\tx/page.html\n\n"))
        files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
        assert files == {"m@v1/a/a.go", "m@v1/a/x/page.html", "m@v1/go.mod", "cache/l"}
        assert (tmp_path / "m@v1/b").is_dir()

    def test_flags_are_those_of_the_gateways_dockerfile(self) -> None:
        """Go takes a compiled package from its cache only under the same flags: otherwise each build takes minutes."""
        text = (build.SOURCE / "images/gateway/Dockerfile").read_text()
        assert f'GOFLAGS="{gateway.GATEWAY_FLAGS}"' in text


class TestDebianMirror:
    @pytest.mark.parametrize(
        ("sources", "found"),
        [
            ("deb http://mirror.test/debian bookworm main\n", "http://mirror.test/debian"),
            ("deb [signed-by=/k] https://mirror.test/d bookworm main\n", "https://mirror.test/d"),
            (
                "Types: deb\nURIs: http://m.test/debian\nSuites: bookworm bookworm-updates\nComponents: main\n",
                "http://m.test/debian",
            ),
            ("Types: deb\nURIs: http://m.test/s\nSuites: bookworm-security\nComponents: main\n", None),
            ("# nothing\n", None),
        ],
    )
    def test_first_address_of_the_suite(self, sources: str, found: str | None) -> None:
        assert debian.first_mirror(sources) == found


class TestLock:
    def test_only_what_is_complete_is_named(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "store")
        base = BY_NAME["base"]
        digest = store.tag(base, [store.put_layer(tree(tmp_path / "a"), base)])
        lock = build.lock_content(tmp_path, store)
        assert lock == {
            "source": "mirror",
            "images": {"base": f"127.0.0.1:5005/private-llm/base:12@{digest}"},
            "models": {},
        }

    def test_the_content_of_the_mirror_follows_the_lock(self) -> None:
        lock = {"source": "mirror", "images": {"base": "a"}, "models": {}}
        assert registry.content_id(lock) == registry.content_id(json.loads(json.dumps(lock)))
        assert registry.content_id(lock) != registry.content_id({**lock, "images": {"base": "b"}})

    @pytest.mark.parametrize(
        ("host", "near"),
        [(None, True), ("unix:///run/other.sock", True), ("ssh://user@host", False), ("tcp://10.0.0.1:2376", False)],
    )
    def test_only_an_engine_on_this_machine_is_asked_through_loopback(
        self, host: str | None, near: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("DOCKER_HOST", raising=False)
        assert registry.shares_loopback(host) is near

    def test_a_copy_writes_its_inventory_last(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("x")
        entries = list(registry.pack({"a/b/data": tmp_path / "data"}, ["a/b/data"]))
        assert [entry.name for entry, _, _ in entries] == ["a", "a/b", "a/b/data", registry.INVENTORY]


class TestModels:
    def test_model_files_are_the_same_everywhere(self) -> None:
        """Their digests are compared after a pull: a file that differs per machine would look like a corrupt one."""
        for model in publish.MODELS:
            assert model.build() == model.build()
        embedding = hashlib.sha256(embed.build()).hexdigest()
        assert embedding == "ec4da3b15bb3b4570ce1fa140a0b327b81bb95b24312930136e78c0ec238073d"

    def test_a_manifest_tells_nothing_of_the_machine_that_made_it(self) -> None:
        made = b'{"schemaVersion":2,"layers":[{"digest":"d","size":1,"from":"/home/me/x"},{"digest":"e","size":2}]}'
        clean = b'{"schemaVersion":2,"layers":[{"digest":"d","size":1},{"digest":"e","size":2}]}'
        assert publish.without_origin(made) == clean

    def test_file_has_the_header_of_its_format(self) -> None:
        data = gguf.encode({"a": "b", "n": 3, "l": ["x"]}, [gguf.constant("t", (2, 2), 1.0)])
        assert struct.unpack("<4sIQQ", data[:24]) == (b"GGUF", 3, 1, 3)
        assert len(data) % gguf.ALIGNMENT == 0

    def test_chat_says_words_only_and_reads_any_text(self) -> None:
        assert all(token.startswith(chat.SPACE) for token in chat.spoken())
        assert {f"<0x{byte:02X}>" for byte in range(256)} <= set(chat.tokens())
        assert len(set(chat.tokens())) == len(chat.tokens())

    def test_embedding_hears_rare_words_loudest(self) -> None:
        vocabulary = embed.vocabulary()
        assert vocabulary[embed.START + "zep"] > vocabulary[embed.START + "water"] > vocabulary[embed.START + "the"]
        assert vocabulary["[CLS]"] == 0

    def test_words_are_plain(self) -> None:
        assert all(word.isascii() and word.islower() for word in words.STOP_WORDS | words.COMMON_WORDS)

    def test_two_checkouts_switch_models_without_making_them_again(self, tmp_path: Path) -> None:
        store, reference = Store(tmp_path / "store"), "library/tiny-chat:latest"
        config, layer = store.put(b"{}"), store.put(b"weights")
        parts = {"config": {"digest": config}, "layers": [{"digest": layer}]}
        mine = store.tag_manifest(reference, json.dumps(parts).encode())
        theirs = store.tag_manifest(reference, json.dumps({**parts, "other": 1}).encode())
        record = tmp_path / "models.recipe"
        record.write_text(json.dumps({reference: mine}))
        store.sweep([reference], {mine})
        assert store.tagged(reference) == theirs
        assert publish.select(store, record)
        assert store.tagged(reference) == mine
        store.blob(layer).unlink()
        assert not publish.select(store, record)

    def test_a_changed_engine_makes_the_models_again(self) -> None:
        assert publish.recipe("one") != publish.recipe("two")
