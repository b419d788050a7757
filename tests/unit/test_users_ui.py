"""People before the chat's page, against a fake of it with a real Socket.IO server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any, Final

import pytest

from loadtests.client.parser import MANY
from loadtests.client.secret import Secrets
from loadtests.generator.recorder import pack, unpack
from loadtests.records import Outcome
from loadtests.target import Target
from loadtests.users.base import Person
from loadtests.users.sockets import LOST, Channel, Event
from loadtests.users.ui import Heard
from loadtests.workload.profiles import PROFILES
from tests.support import chat, people
from tests.support.samples import ROOT

KNOWN: Final = {"LOAD_CHAT_EMAIL": chat.EMAIL, "LOAD_CHAT_PASSWORD": chat.PASSWORD}
TARGET: Final = Target(url="http://127.0.0.1:1", key="sk-test", ca=None)
LENGTHS: Final = {"turns": "fixed:1", "think": "fixed:0.01", "input": "fixed:40", "output": "fixed:5"}
USUAL: Final = {"environment": KNOWN, "lengths": LENGTHS, "patience": 5.0, "leave": 10.0, "upload": False}
TWO: Final = {"lengths": LENGTHS | {"turns": "fixed:2"}}
CASES: Final[dict[str, dict[str, Any]]] = {
    "good": TWO,
    "upload": {"upload": True},
    "thinking": {"model": "thinking"},
    "limited": {"model": "limited"},
    "refused": {"model": "refused"},
    "broken": {"model": "broken", **TWO},
    "telling": {"model": "telling"},
    "password told": {"environment": KNOWN | {"LOAD_CHAT_PASSWORD": chat.REPEATED}},
    "silent": {"model": "silent", "patience": 0.3},
    "stuck": {"model": "stuck", "patience": 0.3},
    "cut": {"model": "cut"},
    "left": {"model": "silent", "leave": 0.3},
    "unknown model": {"model": "gone"},
    "wrong password": {"people": 3, "environment": KNOWN | {"LOAD_CHAT_PASSWORD": "not-this"}},
    "nobody": {"environment": {}},
    "wrong token": {"environment": {"LOAD_CHAT_TOKEN": "old-token-0123456789"}, "model": "default"},
    "no socket": {"environment": {"LOAD_CHAT_TOKEN": chat.HALF}},
    "together": {"people": 4},
    "early": {"ahead": 0.2},
    "late": {"ahead": -0.2, "upload": True},
}


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    with chat.serving() as url:
        yield url


@pytest.fixture(scope="module")
def came(page: str) -> dict[str, dict[str, Any]]:
    """What came of each case; one process runs them all."""
    asked = [{**USUAL, "url": page, **one} for one in CASES.values()]
    done = subprocess.run(
        [*people.PATCHED, "tests.support.people"], cwd=ROOT, input=json.dumps(asked), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(CASES, json.loads(done.stdout), strict=True))


def only(came: dict[str, Any]) -> dict[str, Any]:
    assert not came["stopped"]
    (record,) = came["records"]
    found: dict[str, Any] = record
    return found


def seen(page: str) -> list[dict[str, Any]]:
    return chat.told(page, "seen")


def test_answers_come_over_the_socket_piece_by_piece(came: dict[str, dict[str, Any]]) -> None:
    first, second = came["good"]["records"]
    for turn, record in enumerate((first, second)):
        assert (record["scenario"], record["model"], record["outcome"]) == ("ui", "good", "ok")
        assert (record["turn"], record["session"], record["asked_tokens"]) == (turn, 7, 5)
        assert (len(record["pieces_ns"]), record["output_tokens"], record["input_tokens"]) == (5, 5, 30)
        assert record["first_ns"] == record["visible_ns"] == record["pieces_ns"][0]
        assert record["intended_ns"] == record["sent_ns"] < record["first_ns"] < record["last_ns"] <= record["done_ns"]
        # Five pieces, told 20 ms apart: stamps of a block that was read at the end would lie together.
        assert record["last_ns"] - record["first_ns"] > 3 * chat.GAP * 1e9
    assert second["sent_ns"] > first["done_ns"]


def test_the_chat_keeps_the_history_and_is_removed_at_the_end(came: dict[str, dict[str, Any]], page: str) -> None:
    assert came["good"]["records"]
    sent = [json.loads(one["body"]) for one in seen(page) if one["path"] == "/api/chat/completions"]
    first, second = sent[:2]
    assert (first["parent_id"], "chat_id" in first) == (None, False)
    assert second["parent_id"] == first["id"]
    assert first["background_tasks"]["title_generation"]
    assert "title_generation" not in second["background_tasks"]
    assert first["user_message"]["content"] != second["user_message"]["content"]
    assert ("DELETE", f"/api/v1/chats/{second['chat_id']}") in [(one["method"], one["path"]) for one in seen(page)]


def test_a_document_is_brought_first_and_asked_about(came: dict[str, dict[str, Any]], page: str) -> None:
    upload, answer = came["upload"]["records"]
    assert (upload["scenario"], upload["outcome"], upload["asked_tokens"]) == ("ui upload", "ok", 0)
    assert answer["outcome"] == "ok"
    with_file = [json.loads(one["body"]) for one in seen(page) if '"uploaded"' in one["body"]]
    assert with_file[0]["files"] == with_file[0]["user_message"]["files"]
    gone = [one["path"] for one in seen(page) if one["method"] == "DELETE"]
    assert f"/api/v1/files/{with_file[0]['files'][0]['id']}" in gone


def test_thoughts_are_the_first_token_but_not_the_first_output(came: dict[str, dict[str, Any]]) -> None:
    record = only(came["thinking"])
    assert record["first_ns"] < record["visible_ns"] == record["last_ns"]


def test_a_limit_is_a_limit_wherever_it_was_hit(came: dict[str, dict[str, Any]]) -> None:
    assert (only(came["limited"])["outcome"], only(came["refused"])["outcome"]) == ("limit", "limit")
    assert only(came["refused"])["status"] == 429
    assert "Too many requests from this address" in only(came["refused"])["error"]


def test_what_failed_says_why_and_ends_the_session(came: dict[str, dict[str, Any]]) -> None:
    broken, silent, cut = only(came["broken"]), only(came["silent"]), only(came["cut"])
    assert (broken["outcome"], broken["error"]) == ("error", "the engine is gone")
    assert (silent["outcome"], silent["error"]) == ("timeout", "not done within 0.3 s")
    stuck = only(came["stuck"])
    assert (stuck["outcome"], stuck["status"], stuck["error"]) == ("timeout", None, "not done within 0.3 s")
    assert stuck["done_ns"] - stuck["sent_ns"] < chat.STUCK * 1e9
    assert (cut["outcome"], len(cut["pieces_ns"])) == ("truncated", 1)
    assert cut["error"].startswith("the chat's socket is gone: ")


def test_who_leaves_in_an_answer_has_it_stopped(came: dict[str, dict[str, Any]], page: str) -> None:
    assert only(came["left"])["outcome"] == "cancelled"
    assert [one for one in seen(page) if one["path"].endswith("/stop")]


def test_a_password_is_tried_once_whoever_asks(came: dict[str, dict[str, Any]], page: str) -> None:
    assert came["wrong password"]["records"] == []
    assert "is not known there; it is tried once only" in came["wrong password"]["stopped"]
    tries = [one for one in seen(page) if "not-this" in one["body"]]
    assert len(tries) == 1


def test_what_is_missing_is_named(came: dict[str, dict[str, Any]]) -> None:
    assert "LOAD_CHAT_EMAIL and LOAD_CHAT_PASSWORD" in came["nobody"]["stopped"]
    assert "does not offer the model 'gone'; there are: good, thinking" in came["unknown model"]["stopped"]
    assert came["wrong token"]["stopped"].startswith("the chat does not tell its models: ")


def test_no_token_and_no_password_is_repeated(came: dict[str, dict[str, Any]]) -> None:
    assert only(came["telling"])["error"] == "no engine for (the key)"
    assert "401 Unauthorized: Bearer (the key)" in came["wrong token"]["stopped"]
    assert "'password': '(the key)'" in came["password told"]["stopped"]
    told = json.dumps(came)
    for secret in (chat.TOKEN, chat.HALF, chat.REPEATED, chat.PASSWORD, "old-token-0123456789"):
        assert not [at for at in range(len(secret) - 7) if secret[at : at + 8] in told]


def test_a_session_that_would_never_hear_anything_is_noticed_at_once(came: dict[str, dict[str, Any]]) -> None:
    record = only(came["no socket"])
    assert (record["outcome"], record["status"]) == ("error", 401)
    assert record["error"] == "the chat's socket does not accept the session's token"


class Wire:
    """A socket's end with packets in it, some of which came in one TLS record."""

    def __init__(self, *waiting: int) -> None:
        self._waiting = list(waiting)
        self.sock = self

    def pending(self) -> int:
        """Bytes that were read with those before them."""
        return self._waiting.pop(0)

    def recv(self) -> str:
        """The next packet."""
        return "6"


def test_packets_of_one_tls_record_came_at_one_moment() -> None:
    channel, moments = Channel.__new__(Channel), []
    channel._socket, channel._at_ns = Wire(0, 90, 40, 0), 1
    for _ in range(4):
        channel._next()
        moments.append(channel._at_ns)
    assert moments[0] == moments[1] == moments[2] < moments[3]


def test_an_open_loop_counts_from_its_moment_and_sends_nothing_before_it(came: dict[str, dict[str, Any]]) -> None:
    early = only(came["early"])
    assert early["intended_ns"] <= early["sent_ns"] < early["intended_ns"] + 200_000_000
    upload, answer = came["late"]["records"]
    assert upload["sent_ns"] - upload["intended_ns"] >= 200_000_000
    assert answer["intended_ns"] == answer["sent_ns"] >= upload["done_ns"]


def test_an_open_loop_opens_the_page_before_the_moment(came: dict[str, dict[str, Any]], page: str) -> None:
    moment = only(came["early"])["intended_ns"]
    opened = [one["at_ns"] for one in seen(page) if one["method"] == "JOIN"]
    assert len([at for at in opened if moment - 200_000_000 < at < moment]) == 1


def test_people_share_one_account_and_hear_their_own_answers(came: dict[str, dict[str, Any]]) -> None:
    assert [(one["outcome"], len(one["pieces_ns"])) for one in came["together"]["records"]] == [("ok", 5)] * 4


def test_what_is_under_way_is_counted_and_only_as_long_as_it_is(came: dict[str, dict[str, Any]]) -> None:
    assert {name: one["most"] for name, one in came.items() if name in {"good", "together"}} == {
        "good": 1,
        "together": 4,
    }
    assert {name: one["under_way"] for name, one in came.items()} == dict.fromkeys(came, 0)


def heard(*events: tuple[str, Any]) -> Heard:
    one = Heard(Secrets(chat.TOKEN))
    for at, (kind, data) in enumerate(events):
        if one.take(Event(kind, data, at)):
            break
    return one


def test_pieces_that_were_read_together_are_counted_so() -> None:
    one = Heard(Secrets())
    for at in (5, 5, 9):
        one.take(Event(*chat.piece("ab"), at))
    assert (list(one.pieces_ns), list(one.pieces_chars), one.coalesced) == ([5, 5, 9], [2, 2, 2], 1)


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        (("chat:message:error", {"error": {"content": {"detail": "gone"}}}), Outcome.ERROR),
        (("chat:completion", {"error": "429: Too Many Requests"}), Outcome.LIMIT),
        ((LOST, "the chat's socket is gone: reset"), Outcome.TRUNCATED),
        (("chat:completion", {"done": True}), Outcome.OK),
        (("chat:title", "A title"), Outcome.CANCELLED),
        (("response:completion", None), Outcome.CANCELLED),
        (("response:completion", {"type": "response.output_text.delta", "delta": ""}), Outcome.CANCELLED),
    ],
)
def test_each_event_is_judged(event: tuple[str, Any], outcome: Outcome) -> None:
    one = heard(event)
    assert one.outcome is outcome
    assert len(one.pieces_ns) == 0


@pytest.mark.parametrize("count", [MANY + 1, 10**30, -1, "5", None])
def test_counts_that_nobody_can_have_are_not_known(count: Any) -> None:
    usage = {"usage": {"prompt_tokens": count, "completion_tokens": count}}
    one = heard(("chat:completion", usage), ("chat:completion", {"error": {"message": "bad \ud800"}}))
    record = one.record("ui", "m", Person(target=TARGET, profile=PROFILES["ui"], seed=1, number=7))
    assert (record.input_tokens, record.output_tokens) == (None, None)
    assert record.error == "bad \N{REPLACEMENT CHARACTER}"
    assert unpack(pack([record])) == [record]


@pytest.mark.parametrize("text", ['42["events",7]', '42["events",{"data":[1]}]', '42["events"', '42["events",[]]'])
def test_events_in_a_form_that_nobody_knows_do_not_end_the_reader_unheard(text: str) -> None:
    channel = Channel.__new__(Channel)
    channel._lost, channel._listeners, channel._secrets = "", {}, Secrets()
    texts = iter([text, '42["events",{"message_id":"1","data":[1]}]'])
    channel._next = lambda: next(texts, "41")
    with channel.listening("1") as events:
        channel._read()
        assert events.get_nowait().kind == LOST
