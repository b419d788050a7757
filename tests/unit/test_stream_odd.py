"""What no engine should send, but some do: it is one request's error, never the run's, and without a secret."""

from __future__ import annotations

import json
import string
from typing import Any, Final

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loadtests.analysis import metrics
from loadtests.client import parser
from loadtests.client.parser import MANY, Answer, Form, Parser, unlike
from loadtests.client.secret import HIDDEN, LENGTH, PART, Secrets, writable
from loadtests.client.stream import Reply, Request, _Run
from loadtests.generator import rows
from loadtests.generator.recorder import pack, unpack
from loadtests.records import Outcome
from loadtests.results.store import to_csv

KEY: Final = "sk-load-test-0123456789abcdef"
BAD: Final = "\N{REPLACEMENT CHARACTER}"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def said(text: Any) -> bytes:
    return event({"choices": [{"delta": {"content": text}}]})


def heard(*pieces: bytes, form: Form = Form.EVENTS, status: int = 200, vectors: int | None = None) -> Reply:
    """What becomes of a request that is answered with this."""
    run = _Run(Request(path="/", vectors=vectors), 0, 0, Secrets(KEY))
    run.status, run.complete = status, True
    run.parser = Parser(form, secrets=Secrets(KEY))
    for at, piece in enumerate(pieces, 1):
        run.parser.feed(piece, at)
    return run.reply()


# --- odd values ------------------------------------------------------------------------------------------------------


def test_an_emoji_in_two_halves_is_one_again() -> None:
    answer = heard(said("a"), said("\ud83d"), said("\ude00"), said("\ud83d"), b"data: [DONE]\n\n").answer
    assert (answer.text, len(answer.pieces_ns), answer.error) == (f"a\U0001f600{BAD}", 4, "")


def test_half_an_emoji_in_raw_bytes_teaches_no_wrong_quick_way() -> None:
    raw = b'data: {"choices":[{"delta":{"content":"\xed\xa0\xbd"}}]}\n\n'
    other = event({"choices": [{"text": "?", "delta": {"content": "\ud83d"}}]})
    assert heard(raw, raw, said("b")).answer.text == f"{BAD}{BAD}b"
    assert heard(other, other).answer.text == f"{BAD}{BAD}"


@pytest.mark.parametrize(
    "kind",
    ["response.output_text.delta", "response.reasoning_text.delta", "response.function_call_arguments.delta"],
)
@pytest.mark.parametrize("delta", [["a"], {"a": 1}, 7, None, [None], [{"text": ["a"]}]])
def test_text_that_is_none_is_no_trouble_for_the_text_around_it(kind: str, delta: Any) -> None:
    answer = heard(said("a"), event({"type": kind, "delta": delta}), said("b"), b"data: [DONE]\n\n").answer
    assert answer.text.startswith("a")
    assert answer.text.endswith("b")


@pytest.mark.parametrize(
    ("count", "kept"), [(7, 7), (MANY, MANY), (MANY + 1, None), (10**30, None), (-1, None), (True, None), ("7", None)]
)
def test_counts_that_nobody_can_have_are_not_known(count: Any, kept: int | None) -> None:
    record = heard(said("a"), event({"choices": [], "usage": {"completion_tokens": count}})).record
    assert record.output_tokens == kept
    assert unpack(pack([record])) == [record]


def test_an_error_with_half_a_character_reaches_the_report() -> None:
    record = heard(event({"error": {"message": "bad \ud800"}}), status=500).record
    assert record.error == f"bad {BAD}"
    assert unpack(pack([record])) == [record]
    assert f"bad {BAD}".encode() in to_csv([record]).encode()


def test_what_does_not_fit_into_a_report_is_not_made_a_text() -> None:
    with pytest.raises(OverflowError):
        pack([heard(said("a"), event({"choices": [], "usage": {}}), status=10**30).record])


NAMES: Final = (
    "choices", "delta", "message", "content", "text", "refusal", "reasoning", "reasoning_content", "tool_calls",
    "function", "arguments", "name", "usage", "timings", "completion_tokens", "prompt_tokens", "cached_tokens",
    "prompt_tokens_details", "type", "response", "output", "object", "done", "done_reason", "thinking", "data",
    "embedding", "embeddings", "error", "finish_reason", "eval_count",
)  # fmt: skip
KINDS: Final = (
    "response", "error", "response.output_text.delta", "response.reasoning_text.delta", "response.completed",
    "response.function_call_arguments.delta", "response.incomplete", "response.failed",
)  # fmt: skip
LEAVES: Final = (
    "", "a", "\ud83d", "\ude00", "\ud83d\ude00", "\x00\n\x1b", KEY, "<think>", *KINDS, None, True, False, 0, 1, -1, 0.5,
    float("inf"), float("nan"), 10**9 + 1, 2**63, 2**64, 10**30, -(10**30), 10**400,
)  # fmt: skip
VALUES: Final = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)),
    max_leaves=8,
)
EVENTS: Final = st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=4), max_size=3)


@settings(max_examples=200, deadline=None)
@given(values=EVENTS, form=st.sampled_from(list(Form)), vectors=st.sampled_from([None, 1, 2]))
@example(values=[{"choices": [{"text": "\ud83d"}]}], form=Form.EVENTS, vectors=None)
@example(values=[{"type": "response.output_text.delta", "delta": ["a"]}], form=Form.EVENTS, vectors=None)
@example(values=[{"error": {"message": "bad \ud800"}}], form=Form.WHOLE, vectors=None)
@example(values=[{"done": True, "eval_count": 10**30}], form=Form.LINES, vectors=None)
@example(values=[{"data": [{"embedding": [10**400]}]}], form=Form.WHOLE, vectors=1)
def test_whatever_json_comes_its_record_arrives(values: list[Any], form: Form, vectors: int | None) -> None:
    data = b"".join(
        event(one) if form is Form.EVENTS else json.dumps(one).encode() + b"\n"
        for one in (values[:1] if form is Form.WHOLE else values)
    )
    reply = heard(data, form=form, vectors=vectors)
    (record,) = unpack(pack([reply.record]))
    assert record == reply.record
    f"{reply.answer.text}{reply.answer.reasoning}{to_csv([record])}".encode()
    msgpack.packb(rows.failure(record))
    metrics.tpot(record)


def test_however_deep_a_nest_is_it_is_read_or_an_error() -> None:
    outcomes = set()
    for depth in range(100, 1100):
        call = '{"function":{"arguments":' + "[" * depth + "]" * depth + "}}"
        record = heard(f'{{"choices":[{{"delta":{{"tool_calls":[{call}]}}}}]}}'.encode(), form=Form.WHOLE).record
        outcomes.add(record.outcome)
    assert outcomes == {Outcome.OK, Outcome.ERROR}


# --- no end ----------------------------------------------------------------------------------------------------------

BLOCK: Final = 1 << 16


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """A limit that is soon reached."""
    monkeypatch.setattr(parser, "LONGEST", 1 << 20)
    return parser.LONGEST


def endless(start: bytes, block: bytes, form: Form = Form.EVENTS) -> tuple[Parser, Answer, int]:
    """The parser, what it said, and how many bytes of blocks it took before it had enough."""
    one, taken = Parser(form), 0
    one.feed(start, 1)
    while not one.full and taken < 2 * parser.LONGEST:
        one.feed(block, 2)
        taken += len(block)
    return one, one.close(), taken


@pytest.mark.parametrize(
    ("start", "block", "form"),
    [
        (b"data: ", b"x" * BLOCK, Form.EVENTS),
        (b"", b"x" * BLOCK, Form.EVENTS),
        (b"", b"data: 0123456789\n" * (BLOCK // 17), Form.EVENTS),
        (b'{"response":"', b"x" * BLOCK, Form.LINES),
        (b'{"data":[', b"1," * (BLOCK // 2), Form.WHOLE),
        (b'{"data":[', b"1,\n" * (BLOCK // 3), Form.WHOLE),
    ],
    ids=["an event", "a line", "many lines of one event", "a line of JSON", "a whole answer", "its lines"],
)
def test_what_has_no_end_is_let_go_of(small: int, start: bytes, block: bytes, form: Form) -> None:
    one, answer, taken = endless(start, block, form)
    assert answer.error == "an event of more than 1 MiB"
    assert small - BLOCK < taken <= small + BLOCK
    assert one._tail == one._data == []


def test_many_events_are_never_too_long(small: int) -> None:
    reader, one = Parser(Form.EVENTS), said('"' * 500)
    data = one * 64 + one[:500], one[500:]
    for at in range(2 * small // len(one * 65)):
        for piece in data:
            reader.feed(piece, at)
    assert not reader.full
    assert reader.close().error == ""


# --- vectors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "wanted", "wrong"),
    [
        ({"data": []}, 2, "answered 0 vectors for 2 texts"),
        ({"data": None}, 1, "answered 0 vectors for 1 texts"),
        ({"embedding": None}, 1, "answered 0 vectors for 1 texts"),
        ({"data": "abc"}, 3, "answered 0 vectors for 3 texts"),
        ({"data": [{"embedding": [0.1]}]}, 2, "answered 1 vectors for 2 texts"),
        ({"embeddings": [[0.1], [0.2], [0.3]]}, 2, "answered 3 vectors for 2 texts"),
        ({"data": [{"embedding": "abc"}, {"embedding": "abd"}]}, 2, "not as many numbers each"),
        ({"data": [{"embedding": []}, {"embedding": []}]}, 2, "not as many numbers each"),
        ({"data": [{"embedding": [0.1]}, {"embedding": [0.1, 0.2]}]}, 2, "not as many numbers each"),
        ({"data": [{"embedding": [None]}, {"embedding": [0.2]}]}, 2, "not as many numbers each"),
        ({"data": [{"embedding": [float("nan")]}, {"embedding": [0.2]}]}, 2, "not as many numbers each"),
        ({"data": [{}, {}]}, 2, "not as many numbers each"),
        ({"choices": [{"message": {"content": "no"}}]}, 1, "answered 0 vectors for 1 texts"),
    ],
)
def test_an_answer_without_the_vectors_that_were_asked_for_is_an_error(
    answer: dict[str, Any], wanted: int, wrong: str
) -> None:
    record = heard(json.dumps(answer).encode(), form=Form.WHOLE, vectors=wanted).record
    assert record.outcome is Outcome.ERROR
    assert wrong in record.error
    assert heard(json.dumps(answer).encode(), form=Form.WHOLE, status=429, vectors=2).record.outcome is Outcome.LIMIT


@pytest.mark.parametrize(
    "answer",
    [
        {"data": [{"embedding": [0.1, 2]}, {"embedding": [-0.2, 0]}]}, {"embeddings": [[0.1], [0.2]]},
        {"data": [{"embedding": [0.1]}, {"embedding": [0.2]}], "usage": {"prompt_tokens": 4}},
    ],
)  # fmt: skip
def test_vectors_as_they_should_be(answer: dict[str, Any]) -> None:
    assert heard(json.dumps(answer).encode(), form=Form.WHOLE, vectors=2).record.outcome is Outcome.OK
    assert unlike([[1.0]], 1) == unlike([[1.0]], 1, 1) == ""
    assert unlike([[1.0]], 1, 2) == "vectors that are not 2 numbers each"
    assert heard(b'{"embedding": [0.5]}', form=Form.WHOLE, vectors=1).record.outcome is Outcome.OK


# --- secrets ---------------------------------------------------------------------------------------------------------


def parts(text: str) -> list[str]:
    """What of the key stands in a text."""
    return [KEY[at : at + PART] for at in range(len(KEY) - PART + 1) if KEY[at : at + PART] in text]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"no such key: {KEY}.", "no such key: (the key)."),
        (f"{KEY}{KEY} and {KEY}", "(the key) and (the key)"),
        (f"no such key: {KEY[:12]}***{KEY[-3:]}", "no such key: (the key)***def"),
        ("nothing of it", "nothing of it"),
        ("", ""),
    ],
)
def test_a_secret_and_its_parts_are_hidden(text: str, shown: str) -> None:
    assert Secrets(KEY).said(text) == shown


def test_any_number_of_secrets_and_none() -> None:
    assert Secrets("abcd", "secret-word", "x", "").said("abcd x secret-word") == "(the key) x (the key)"
    assert Secrets().said(KEY) == KEY


@given(text=st.lists(st.one_of(st.text(string.printable, max_size=9), st.just(KEY), st.just(KEY[5:20]))))
def test_no_part_of_a_secret_is_left_wherever_it_stands(text: list[str]) -> None:
    shown = Secrets(KEY).said("".join(text))
    assert parts(shown) == []
    assert len(shown) <= LENGTH


@pytest.mark.parametrize("before", range(30, 60, 3))
def test_what_is_cut_leaves_no_half_of_a_secret(before: int) -> None:
    for data in ("-" * before + KEY + "-" * 99, "[" + json.dumps("-" * before + KEY) + "]"):
        record = heard(f"data: {data}\n\n".encode()).record
        assert "not " in record.error
        assert KEY[:3] not in record.error
    assert HIDDEN in Secrets(KEY).said("-" * (LENGTH - 20) + KEY + "-" * 99)
    assert KEY[:3] not in Secrets(KEY).said("-" * (LENGTH - 5) + KEY)


@pytest.mark.parametrize("status", [200, 401])
@pytest.mark.parametrize(
    "value",
    [
        {"error": {"message": f"Incorrect API key provided: Bearer {KEY}"}}, {"error": f"Bearer {KEY}"},
        {"error": {"code": KEY}}, {"type": "error", "message": KEY}, {"choices": [KEY]},
        {"type": "response.failed", "response": {"error": {"message": KEY}}}, [KEY],
    ],
)  # fmt: skip
def test_a_record_never_repeats_the_key(status: int, value: Any) -> None:
    record = heard(event(value), status=status).record
    assert HIDDEN in record.error
    assert parts(record.error) == []
    escaped = event(value).replace(b"-", b"\\u002d")
    assert parts(heard(escaped, status=status).record.error) == []


def test_halves_of_characters_can_be_written() -> None:
    assert writable("plain é") == "plain é"
    assert writable("\ud83d\ude00 \ud83d! \ude00") == f"\U0001f600 {BAD}! {BAD}"
