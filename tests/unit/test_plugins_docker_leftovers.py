"""A container that exists although its creation failed is recorded or removed, and nobody else's is touched."""

from __future__ import annotations

import pytest
from google.protobuf.struct_pb2 import Struct

from offline.plugins import docker_leftovers as leftovers

CONFLICT = (
    'Unable to create container: Error response from daemon: Conflict. The container name "/x-chat" is already in use '
    'by container "c0ffee". You have to remove (or rename) that container to be able to reuse that name.'
)
OURS = {"private-llm.stack": "dev", "private-llm.service": "chat"}


def struct(values: dict[str, object]) -> Struct:
    made = Struct()
    made.update(values)
    return made


@pytest.mark.parametrize(
    ("found", "ours"),
    [
        ({**OURS, "private-llm.config": "an older hash"}, True),
        ({**OURS, "private-llm.stack": "prod"}, False),
        ({"private-llm.stack": "dev"}, False),
        ({}, False),
    ],
)
def test_only_a_container_of_the_same_stack_and_service_is_ours(found: dict[str, str], ours: bool) -> None:
    assert leftovers.same_owner(OURS, found) is ours


def test_a_container_without_owner_labels_owns_nothing() -> None:
    assert not leftovers.same_owner({}, {})


@pytest.mark.parametrize(
    ("message", "found", "made"),
    [
        ("Unable to start container: port is already allocated", {}, True),
        ("Unable to upload volume content: no such file", {}, True),
        ("context canceled", OURS, True),
        ("context canceled", {}, False),
        ("Unable to create container with image x: pull access denied", {}, False),
        (CONFLICT, OURS, False),
    ],
)
def test_a_failed_creation_claims_only_the_container_it_made(message: str, found: dict[str, str], made: bool) -> None:
    assert leftovers.made_by_this_call(message, OURS, found) is made


def test_the_mark_of_a_half_made_container_survives_in_the_bridges_notes() -> None:
    state = struct({"__meta": '{"schema_version":"2"}', "name": "chat"}).fields
    assert not leftovers.is_unfinished(state)
    leftovers.mark_unfinished(state)
    assert leftovers.is_unfinished(state)
    assert leftovers.notes(state)["schema_version"] == "2"


def test_a_state_without_notes_is_finished_and_can_be_marked() -> None:
    state = struct({"name": "chat"}).fields
    assert not leftovers.is_unfinished(state)
    leftovers.mark_unfinished(state)
    assert leftovers.is_unfinished(state)


def test_a_container_is_found_by_its_whole_name_among_others() -> None:
    listing = struct(
        {
            "containers": [
                {"id": "1", "names": ["/x-chat-seed"], "labels": {}},
                {"id": "2", "names": ["/x-chat"], "labels": OURS},
            ]
        }
    )
    assert leftovers.named("x-chat", listing) == leftovers.Found("2", OURS)
    assert leftovers.named("x-cha", listing) is None
    assert leftovers.named("x-chat", struct({})) is None


def test_names_and_labels_are_read_through_secrets() -> None:
    secret = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": "x-chat"}
    inputs = struct({"name": secret, "labels": [{"label": "private-llm.stack", "value": "dev"}]})
    assert leftovers.name_of(inputs) == "x-chat"
    assert leftovers.labels_of(inputs) == {"private-llm.stack": "dev"}


def test_last_words_are_indented_and_without_control_characters() -> None:
    answer = struct({"logsListStrings": ["\x01\x00\x00\x05cannot open /data\n", "\n"]})
    assert leftovers.log_lines(answer) == "\nthe container's last lines:\n  cannot open /data"
    assert leftovers.log_lines(struct({})) == ""


def test_a_network_that_is_there_already_is_told_from_other_failures() -> None:
    assert leftovers.is_network_conflict("Unable to create network: network with name x-app already exists: ")
    assert not leftovers.is_network_conflict("Unable to create network: could not find an available pool")
