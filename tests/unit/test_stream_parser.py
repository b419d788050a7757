"""Streams in every form that engines send, and the same record however the network cut them."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.client.lag import Lags
from loadtests.client.parser import Answer, Form, Parser
from tests.unit.test_purity import imported


def delta(**said: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": said, "finish_reason": None}]}


def events(*values: Any, end: str = "\n", done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(v, ensure_ascii=False) if isinstance(v, dict) else v}{end}{end}" for v in values]
    return "".join([*lines, *([f"data: [DONE]{end}{end}"] if done else [])]).encode()


def lines(*values: dict[str, Any]) -> bytes:
    return "".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values).encode()


def parsed(*pieces: bytes, form: Form = Form.EVENTS, encoding: str = "") -> Answer:
    """Each piece arrives at its own number, from 1."""
    parser = Parser(form, encoding)
    for at, piece in enumerate(pieces, 1):
        parser.feed(piece, at)
    return parser.close()


def at_once(data: bytes, form: Form = Form.EVENTS) -> Answer:
    return parsed(data, form=form)


USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}}


class TestEvents:
    def test_role_and_usage_are_no_pieces(self) -> None:
        answer = parsed(
            events(delta(role="assistant", content=""), done=False),
            events(delta(content=None), done=False),
            events(delta(content="a"), done=False),
            events(delta(content="b"), done=False),
            events(delta(), USAGE),
        )
        assert list(answer.pieces_ns) == [3, 4]
        assert (answer.first_ns, answer.last_ns, answer.visible_ns) == (3, 4, 3)
        assert (answer.input_tokens, answer.output_tokens) == (3, 7)
        assert (answer.text, answer.ended, answer.error) == ("ab", True, "")

    @pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
    def test_reasoning_is_the_first_text_but_not_the_first_that_is_seen(self, name: str) -> None:
        answer = parsed(
            *(events(delta(**{k: v}), done=False) for k, v in ((name, "hm "), (name, "so"), ("content", "4")))
        )
        assert (answer.first_ns, answer.visible_ns, answer.reasoning, answer.text) == (1, 3, "hm so", "4")

    def test_only_thoughts_are_no_visible_answer(self) -> None:
        answer = at_once(events(delta(reasoning="hm")))
        assert (answer.first_ns, answer.visible_ns) == (1, None)

    def test_thoughts_between_marks_are_taken_out_of_the_text(self) -> None:
        said = ("<th", "ink>", "hm", "</thi", "nk>\n\n", "4", "2")
        answer = parsed(*(events(delta(content=piece), done=False) for piece in said))
        assert (answer.text, answer.reasoning, answer.first_ns, answer.visible_ns) == ("42", "hm", 1, 6)

    def test_thoughts_that_never_end_are_no_answer(self) -> None:
        answer = at_once(events(delta(content="<think>hm")))
        assert (answer.text, answer.reasoning, answer.visible_ns) == ("", "hm", None)

    def test_a_tool_call_is_text_in_its_channel(self) -> None:
        call = [{"index": 0, "function": {"name": "look", "arguments": ""}}]
        more = [{"index": 0, "function": {"arguments": "{}"}}]
        answer = parsed(events(delta(tool_calls=call), done=False), events(delta(tool_calls=more)))
        assert (list(answer.pieces_chars), answer.visible_ns, answer.text) == ([4, 2], None, "")

    def test_pieces_that_came_together_are_counted(self) -> None:
        one = events(delta(content="x"), done=False)
        answer = parsed(one * 3, one, one * 2)
        assert (list(answer.pieces_ns), answer.coalesced) == ([1, 1, 1, 2, 3, 3], 3)

    def test_several_tokens_are_one_piece(self) -> None:
        answer = at_once(events(delta(content="seven tokens in one"), USAGE))
        assert (list(answer.pieces_chars), answer.output_tokens) == ([19], 7)

    def test_an_event_counts_from_its_last_byte(self) -> None:
        data = events(delta(content="ü"), done=False)
        cut = data.index("ü".encode()) + 1
        assert list(parsed(data[:cut], data[cut:-1], data[-1:]).pieces_ns) == [3]

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_line_ends(self, end: str) -> None:
        answer = parsed(*(bytes([b]) for b in events(delta(content="x"), delta(content="y"), end=end)))
        assert (answer.text, answer.ended, answer.error) == ("xy", True, "")

    def test_comments_names_and_other_fields_are_skipped(self) -> None:
        data = (
            b": ping\n\n\xef\xbb\xbf:\n\nevent: message\nid: 7\nretry: 1\n" + events(delta(content="x")) + b": bye\n\n"
        )
        answer = at_once(data)
        assert (answer.text, answer.ended, answer.error) == ("x", True, "")

    def test_a_mark_of_byte_order_before_the_first(self) -> None:
        assert at_once(b"\xef\xbb\xbf" + events(delta(content="x"))).text == "x"

    def test_data_over_several_lines(self) -> None:
        for end in (b"\n", b"\r\n", b"\r"):
            data = end.join((b'data: {"choices":', b'data:[{"delta":{"content":"x"}}]}', b"", b""))
            assert at_once(data).text == parsed(*(bytes([b]) for b in data)).text == "x"

    def test_the_last_event_may_lack_its_blank_line(self) -> None:
        answer = at_once(events(delta(content="x"), done=False) + b"data: [DONE]")
        assert (answer.text, answer.ended) == ("x", True)

    def test_text_that_looks_like_the_protocol(self) -> None:
        words = 'data: [DONE]\n\n{"choices": []} \\u00e9 " '
        answer = at_once(events(delta(content=words), done=False))
        assert (answer.text, answer.ended) == (words, False)

    @pytest.mark.parametrize("usage", ["never", "always"])
    def test_usage_never_or_in_every_chunk(self, usage: str) -> None:
        chunks = [delta(content="x") for _ in range(3)]
        if usage == "always":
            chunks = [c | {"usage": {"prompt_tokens": 5, "completion_tokens": k}} for k, c in enumerate(chunks, 1)]
        answer = at_once(events(*chunks))
        assert (answer.input_tokens, answer.output_tokens) == ((5, 3) if usage == "always" else (None, None))

    @pytest.mark.parametrize(
        "said",
        [
            {"usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}},
            {"usage": {"prompt_tokens": 9}, "timings": {"cache_n": 4, "prompt_n": 5}},
            {"usage": {"prompt_tokens": 9, "prompt_tokens_details": None}},
        ],
    )
    def test_how_much_of_the_prompt_was_cached(self, said: dict[str, Any]) -> None:
        answer = at_once(events(delta(content="x"), {"choices": []} | said))
        told = "timings" in said or said["usage"]["prompt_tokens_details"]
        assert (answer.input_tokens, answer.cached_tokens) == (9, 4 if told else None)

    def test_an_error_after_the_head(self) -> None:
        answer = at_once(events(delta(content="x"), {"error": {"message": "out of memory"}}, done=False))
        assert (answer.error, answer.ended, answer.text) == ("out of memory", False, "x")

    @pytest.mark.parametrize(
        "data", [b"{oh no", b"[1]", b"\xff\xfe", b'{"choices": 3}', b'{"choices": [4]}', b"[" * 9999]
    )
    def test_rubbish_is_said_and_what_was_good_stays(self, data: bytes) -> None:
        answer = at_once(
            events(delta(content="x"), done=False) + b"data: " + data + b"\n\n" + events(delta(content="y"))
        )
        assert answer.text == "xy"
        assert answer.error

    def test_a_cut_stream_has_no_end(self) -> None:
        data = events(delta(content="x"), delta(content="y"))
        assert not at_once(data[: data.index(b"[DONE]") + 3]).ended

    def test_a_packed_stream_is_unpacked(self) -> None:
        packed = gzip.compress(events(delta(content="x")))
        answer = parsed(packed[:9], packed[9:], encoding="gzip")
        assert (answer.text, answer.ended) == ("x", True)
        assert "br" in parsed(b"x", encoding="br").error
        assert parsed(b"no gzip", encoding="gzip").error

    def test_older_completions(self) -> None:
        answer = at_once(events({"choices": [{"text": "x"}]}, {"choices": [{"text": "", "finish_reason": "stop"}]}))
        assert (answer.text, len(answer.pieces_ns), answer.finish) == ("x", 1, "stop")

    @pytest.mark.parametrize("end", ["completed", "incomplete"])
    def test_responses(self, end: str) -> None:
        usage = {"usage": {"input_tokens": 3, "output_tokens": 2}}
        data = events(
            {"type": "response.created", "response": {}},
            {"type": "response.reasoning_text.delta", "delta": "hm"},
            {"type": "response.output_text.delta", "delta": "x"},
            {"type": "response.output_text.done", "text": "x"},
            {"type": f"response.{end}", "response": usage},
            done=False,
        )
        answer = at_once(data)
        assert (answer.text, answer.reasoning, answer.ended) == ("x", "hm", True)
        assert (answer.input_tokens, answer.output_tokens) == (3, 2)

    def test_a_failed_response(self) -> None:
        told = {"type": "response.failed", "response": {"error": {"message": "no"}}}
        assert at_once(events(told, done=False)).error == "no"
        assert at_once(events({"type": "error", "message": "not either"}, done=False)).error == "not either"


class TestLines:
    def test_chat(self) -> None:
        data = lines(
            {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
            {"message": {"role": "assistant", "content": "x"}, "done": False},
            {"message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2},
        )
        answer = at_once(data, Form.LINES)
        assert (answer.text, answer.reasoning, answer.ended, answer.finish) == ("x", "hm", True, "stop")
        assert (answer.input_tokens, answer.output_tokens, len(answer.pieces_ns)) == (3, 2, 2)

    def test_generate_without_an_end(self) -> None:
        answer = at_once(lines({"response": "x", "done": False}), Form.LINES)
        assert (answer.text, answer.ended) == ("x", False)

    def test_an_error_in_the_stream(self) -> None:
        assert at_once(lines({"error": "no memory"}), Form.LINES).error == "no memory"


class TestWhole:
    def test_embeddings(self) -> None:
        made = {"data": [{"embedding": [0.1]}, {"embedding": [0.2]}], "usage": {"prompt_tokens": 4}}
        answer = at_once(json.dumps(made).encode(), Form.WHOLE)
        assert (answer.vectors, answer.input_tokens, answer.ended, len(answer.pieces_ns)) == (2, 4, True, 0)
        made = {"embeddings": [[0.1]], "prompt_eval_count": 2}
        assert at_once(json.dumps(made, indent=1).encode(), Form.WHOLE).input_tokens == 2

    def test_an_answer_that_was_not_streamed(self) -> None:
        made = {"choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": 1}}
        answer = at_once(json.dumps(made).encode(), Form.WHOLE)
        assert (answer.text, answer.ended, answer.output_tokens) == ("x", True, 1)

    def test_a_refusal(self) -> None:
        answer = at_once(b'{"error": {"message": "no such model"}}', Form.WHOLE)
        assert (answer.error, answer.ended) == ("no such model", False)

    def test_half_of_one(self) -> None:
        assert at_once(b'{"choices": [', Form.WHOLE).error


def test_what_reads_answers_and_records_needs_no_network() -> None:
    assert imported(
        "loadtests.client.parser", "loadtests.client.lag", "loadtests.analysis.metrics", "loadtests.records"
    ) == ({}, [])


def test_forms() -> None:
    assert Form.of("text/event-stream; charset=utf-8") is Form.EVENTS
    assert Form.of("application/x-ndjson") is Form.LINES
    assert Form.of("text/html") is None


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
VALUE = st.one_of(
    WORDS.map(lambda text: delta(content=text)),
    WORDS.map(lambda text: delta(reasoning_content=text)),
    WORDS.map(lambda text: {"error": text}),
    st.just(delta(role="assistant", content="")),
    st.just(USAGE),
    st.just("[DONE]"),
    st.just("rubbish"),
)
CUTS = st.lists(st.integers(0, 2000), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


@settings(max_examples=150, deadline=None)
@given(values=st.lists(VALUE, max_size=6), end=st.sampled_from(["\n", "\r\n", "\r"]), cuts=CUTS, comment=st.booleans())
def test_any_cut_gives_the_same_answer(values: list[Any], end: str, cuts: list[int], comment: bool) -> None:
    data = (f": ping{end}{end}".encode() if comment else b"") + events(*values, end=end, done=False)
    whole, cut = Parser(Form.EVENTS), Parser(Form.EVENTS)
    whole.feed(data, 1)
    for piece in pieces(data, cuts):
        cut.feed(piece, 1)
    assert whole.close() == cut.close()
    late = parsed(*pieces(data, cuts))
    assert replace(late, pieces_ns=None, coalesced=0, visible_ns=None) == replace(  # type: ignore[arg-type]
        at_once(data),
        pieces_ns=None,
        coalesced=0,
        visible_ns=None,  # type: ignore[arg-type]
    )
    assert list(late.pieces_ns) == sorted(late.pieces_ns)


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(
        st.one_of(WORDS, st.sampled_from(['"', "\\", '","x":"', "a", "b", 'content":"', "\u2028", "é"])), max_size=9
    ),
    native=st.booleans(),
)
def test_quick_ways_say_what_json_says(texts: list[str], native: bool) -> None:
    if native:
        answer = at_once(lines(*({"message": {"content": text}, "done": False} for text in texts)), Form.LINES)
    else:
        answer = at_once(events(*(delta(content=text) for text in texts)))
    assert list(answer.pieces_chars) == [len(text) for text in texts if text]
    assert (answer.text, answer.error) == ("".join(texts), "")


def test_the_quick_way_sees_what_differs_beside_the_text() -> None:
    other = delta(content="b") | {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    two = {"choices": [*delta(content="c")["choices"], {"index": 1, "delta": {"content": "d"}}]}
    thought = {"choices": [*delta(content="f")["choices"], {"index": 1, "delta": {"reasoning": "g"}}]}
    finished = delta(content="e")
    finished["choices"][0]["finish_reason"] = "stop"
    answer = at_once(events(delta(content="a"), delta(content="a"), other, two, two, {"error": "x"}, finished))
    assert at_once(events(thought, thought, thought)).reasoning == "ggg"
    assert (answer.text, list(answer.pieces_chars)) == ("aabcdcde", [1] * 8)
    assert (answer.output_tokens, answer.error, answer.finish) == (2, "x", "stop")


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300), cuts=CUTS, form=st.sampled_from(list(Form)))
def test_nothing_that_is_sent_makes_it_raise(data: bytes, cuts: list[int], form: Form) -> None:
    whole, cut = Parser(form), Parser(form)
    whole.feed(data, 1)
    for piece in pieces(data, cuts):
        cut.feed(piece, 1)
    assert whole.close() == cut.close()


@given(values=st.lists(st.integers(-5, 10**13), min_size=1, max_size=50), share=st.floats(0.01, 1))
def test_lags_are_right_to_an_eighth(values: list[int], share: float) -> None:
    lags = Lags()
    for value in values:
        lags.add(value)
    ordered = sorted(max(v, 0) for v in values)
    exact = next(v for k, v in enumerate(ordered, 1) if k >= share * len(ordered))
    assert exact <= lags.quantile(share) <= exact * 1.125
    assert lags.count == len(values)
    assert (Lags().count, Lags().quantile(0.99)) == (0, 0)
