"""A version is spelt once; where something outside the program must spell it too, it is held against that one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from offline.images.recipes import BY_NAME
from offline.plugins import command, docker_names
from stack import versions

ROOT = Path(__file__).resolve().parents[2]


def tag(image: str) -> str:
    return versions.IMAGES[image].rpartition(":")[2].removeprefix("v")


@pytest.mark.parametrize("plugin", sorted(versions.PLUGINS))
def test_the_sdk_of_a_plugin_has_its_version(plugin: str) -> None:
    locked = dict(re.findall(r"^(pulumi-\w+)==(\S+)", (ROOT / "requirements/runtime.lock").read_text(), re.MULTILINE))
    assert locked[f"pulumi-{plugin}"] == versions.PLUGINS[plugin]


def test_stand_ins_answer_with_the_official_versions() -> None:
    assert versions.PLUGINS["docker"] == docker_names.OFFICIAL_VERSION
    assert versions.PLUGINS["command"] == command.VERSION


@pytest.mark.parametrize("image", ["open-webui", "chroma", "gateway-builder"])
def test_images_from_packages_have_the_official_version(image: str) -> None:
    assert tag(image).partition("-")[0] == BY_NAME[image].version


@pytest.mark.parametrize("image", sorted(versions.IMAGES))
def test_no_image_has_a_floating_tag(image: str) -> None:
    assert re.search(r"\d", tag(image)), f"{versions.IMAGES[image]} names no version"
    assert tag(image) not in {"latest", "main", "stable"}
