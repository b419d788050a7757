"""What stands in a streamed answer, and when each piece of it came: from bytes and stamps, without a network.

Understands OpenAI's events (chat, completions, responses), Ollama's lines, and answers that come whole (embeddings).
However the network cut the bytes, the same answer comes out: an event counts from the arrival of its last byte.
"""

from __future__ import annotations

import json
import math
import zlib
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from loadtests.client.secret import LOOKED, Secrets, writable

THINK: Final = ("<think>", "</think>")
DONE: Final = b"[DONE]"
TEXTS: Final = (b'"content":"', b'"content": "', b'"text":"', b'"text": "', b'"response":"')
LESSONS: Final = 8
LONGEST: Final = 16 << 20
"""Bytes of an event, a line, or an answer that comes whole. What is longer is none: it would fill the memory."""
MANY: Final = 10**9
"""Tokens. More has no answer, and what counts them has 64 bits."""


class Form(StrEnum):
    """How an answer is cut into pieces."""

    EVENTS = "text/event-stream"
    LINES = "application/x-ndjson"
    WHOLE = "application/json"

    @classmethod
    def of(cls, content_type: str) -> Form | None:
        """The form of a Content-Type, None for one that no engine answers with."""
        try:
            return cls(content_type.partition(";")[0].strip().lower())
        except ValueError:
            return None


@dataclass(slots=True, kw_only=True)
class Answer:
    """What an answer said. Moments are those that were given with the bytes, in nanoseconds."""

    text: str = ""
    """The visible answer, all choices in the order of arrival, without the thoughts before it."""
    reasoning: str = ""
    pieces_ns: array[int] = field(default_factory=lambda: array("q"))
    """Arrival of each piece with text in any channel: visible, reasoning, or a tool call's."""
    pieces_chars: array[int] = field(default_factory=lambda: array("q"))
    coalesced: int = 0
    """Pieces that arrived together with the one before them: the gap between the two is not known."""
    visible_ns: int | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    finish: str = ""
    ended: bool = False
    """The end mark of its protocol was there."""
    error: str = ""
    """What the server said went wrong, or what could not be read."""
    vectors: int = 0
    embeddings: list[Any] = field(default_factory=list)
    """The vectors, as they came."""

    @property
    def first_ns(self) -> int | None:
        """Arrival of the first piece with text."""
        return self.pieces_ns[0] if self.pieces_ns else None

    @property
    def last_ns(self) -> int | None:
        """Arrival of the last piece with text."""
        return self.pieces_ns[-1] if self.pieces_ns else None


class Parser:
    """Reads one answer: `feed` its bytes in order, each with its arrival, then `close` once.

    It never raises for what a server sends: the answer's `error` says it, and quotes none of the secrets. (A server's
    own words in it are as they came.)
    """

    def __init__(self, form: Form, encoding: str = "", secrets: Secrets | None = None) -> None:
        self.full = False
        """An event was too long; nothing more is taken."""
        self._form = form
        self._secrets = secrets or Secrets()
        self._answer = Answer()
        self._visible: list[tuple[int, str]] = []
        self._reasoning: list[str] = []
        self._tail: list[bytes] = []
        self._data: list[bytes] = []
        self._tail_size = self._data_size = 0
        self._at = 0
        self._after_return = False
        self._like: tuple[bytes, bytes] | None = None
        self._frame: tuple[bytes, bytes] | None = None
        self._lessons = LESSONS
        self._unpack = None
        if encoding.lower() in {"gzip", "deflate"}:
            self._unpack = zlib.decompressobj(wbits=47 if encoding.lower() == "gzip" else 15)
        elif encoding.lower() not in {"", "identity"}:
            self._fail(f"the answer is packed with {encoding}, which was not asked for")

    def feed(self, data: bytes, at_ns: int) -> None:
        """Takes the next bytes of the body."""
        if self._frame and not (self._tail or self._data) and (text := self._alike(data, *self._frame)):
            self._at, self._after_return = at_ns, False
            return self._piece(text, "", "")
        if self.full:
            return None
        if self._unpack is not None:
            try:
                data = self._unpack.decompress(data)
            except zlib.error as error:
                return self._fail(f"the packed answer cannot be read: {error}")
        if self._after_return and data.startswith(b"\n"):
            data = data[1:]
            self._after_return = False
        if not data:
            return None
        self._at = at_ns
        if self._form is Form.WHOLE or (b"\n" not in data and b"\r" not in data):
            self._after_return = False
            self._tail.append(data)
            self._tail_size += len(data)
            if self._tail_size + self._data_size > LONGEST:
                self._overflow()
            return None
        self._after_return = data.endswith(b"\r")
        if self._tail:
            data = b"".join((*self._tail, data))
        # Of bytes, splitlines knows \n, \r and \r\n only, as the format does.
        lines = data.splitlines()
        self._tail = [] if data.endswith((b"\n", b"\r")) else [lines.pop()]
        self._tail_size = len(self._tail[0]) if self._tail else 0
        line = self._event_line if self._form is Form.EVENTS else self._value
        for one in lines:
            line(one)
        if self._tail_size + self._data_size > LONGEST:
            self._overflow()
        return None

    def close(self) -> Answer:
        """The answer, complete or not."""
        rest = b"".join(self._tail)
        if self._form is Form.EVENTS:
            self._event_line(rest)
            self._event_line(b"")
        else:
            self._value(rest, whole=self._form is Form.WHOLE)
        self._answer.reasoning = "".join(self._reasoning)
        self._part_thoughts()
        self._answer.text, self._answer.reasoning = writable(self._answer.text), writable(self._answer.reasoning)
        return self._answer

    def _overflow(self) -> None:
        """Lets go of an event that has no end, and takes nothing more."""
        self._fail(f"an event of more than {LONGEST >> 20} MiB")
        self.full, self._tail, self._data = True, [], []

    def _fail(self, why: str) -> None:
        self._answer.error = self._answer.error or why

    def _unread(self, why: str, data: bytes) -> None:
        text = self._secrets.hidden(data[:LOOKED].decode(errors="replace"))
        self._fail(f"{why}: {text[:60]!r}" + (", cut" if len(text) > 60 else ""))

    def _event_line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            self._data_size += len(line) + 1
        elif not line and self._data:
            data, self._data, self._data_size = self._data, [], 0
            self._value(data[0] if len(data) == 1 else b"\n".join(data))
        elif line.startswith(b"\xef\xbb\xbfdata:"):
            self._event_line(line[3:])

    def _value(self, data: bytes, *, whole: bool = False) -> None:
        if data == DONE:
            self._answer.ended = True
            return
        if self._like is not None and (text := self._alike(data, *self._like)):
            self._piece(text, "", "")
            return
        if not data or data.isspace():
            return
        before = len(self._answer.pieces_ns), len(self._visible)
        try:
            value = read(data)
        except (ValueError, RecursionError):
            self._unread("not JSON", data)
            return
        if not isinstance(value, dict):
            self._unread("not an object", data)
            return
        try:
            self._take(value, whole=whole)
        except (AttributeError, TypeError, KeyError, ValueError):
            self._unread("in a form that no engine has", data)
            return
        now = len(self._answer.pieces_ns), len(self._visible)
        if self._lessons and now == (before[0] + 1, before[1] + 1):
            self._lessons -= 1
            self._learn(data, self._visible[-1][1])

    @staticmethod
    def _alike(data: bytes, before: bytes, after: bytes) -> str:
        """The text of an event that is that of before to the byte, but for its text: JSON could not say more.

        Empty where it is not. This spares most of a client's time on most streams.
        """
        if not (data.startswith(before) and data.endswith(after)):
            return ""
        middle = data[len(before) : len(data) - len(after)]
        if b'"' in middle or b"\\" in middle:
            return ""
        try:
            text = middle.decode()
        except UnicodeDecodeError:
            return ""
        return text if text.isprintable() else ""

    def _learn(self, data: bytes, text: str) -> None:
        """Keeps what stands around the text, where that is the only place it can have come from.

        Such a mark cannot stand within a string of JSON: its quotes would be escaped.
        """
        plain = text.encode("utf-8", "surrogatepass") + b'"'
        for mark in TEXTS:
            before, found, rest = data.partition(mark)
            if found and mark not in rest and rest.startswith(plain) and len(text) == self._answer.pieces_chars[-1]:
                before, after = self._like = before + mark, rest[len(plain) - 1 :]
                if self._unpack is None:
                    self._frame = (
                        (b"data: " + before, after + b"\n\n") if self._form is Form.EVENTS else (before, after + b"\n")
                    )
                return

    def _take(self, value: dict[str, Any], *, whole: bool) -> None:
        answer = self._answer
        kind = value.get("type")
        if value.get("error") or kind == "error":
            error = value.get("error") or value
            self._fail(str(error.get("message", error) if isinstance(error, dict) else error))
        elif "choices" in value:
            self._choices(value["choices"] or ())
            self._usage(value.get("usage"))
            self._usage(value.get("timings"))
            answer.ended = answer.ended or whole
        elif isinstance(kind, str) and kind.startswith("response."):
            self._response_event(kind, value)
        elif value.get("object") == "response":
            self._response(value)
        elif "done" in value:
            said = value.get("message") or value
            self._piece(
                _words(said.get("content") or said.get("response")),
                _words(said.get("thinking")),
                "".join(_call(one) for one in said.get("tool_calls") or ()),
            )
            self._usage(value)
            if value["done"] is True:
                answer.ended = True
                answer.finish = str(value.get("done_reason") or "stop")
        elif "data" in value or "embeddings" in value or "embedding" in value:
            found = value.get("data") or value.get("embeddings")
            if not found and (only := value.get("embedding")):
                found = [only]
            vectors = found if isinstance(found, list) else []
            answer.vectors = len(vectors)
            answer.embeddings = [one.get("embedding") if isinstance(one, dict) else one for one in vectors]
            answer.ended = True
            self._usage(value.get("usage") or value)
        elif whole:
            self._fail("JSON, but no engine's answer")

    def _choices(self, choices: Any) -> None:
        for choice in choices:
            said = choice.get("delta") or choice.get("message") or choice
            calls = said.get("tool_calls")
            self._piece(
                _words(said.get("content") or said.get("text") or said.get("refusal")),
                _words(said.get("reasoning_content") or said.get("reasoning")),
                "".join(_call(one) for one in calls) if calls else "",
            )
            if choice.get("finish_reason"):
                self._answer.finish = str(choice["finish_reason"])

    def _response_event(self, kind: str, value: dict[str, Any]) -> None:
        if kind == "response.output_text.delta":
            self._piece(_words(value["delta"]), "", "")
        elif kind in {"response.reasoning_text.delta", "response.reasoning_summary_text.delta"}:
            self._piece("", _words(value["delta"]), "")
        elif kind == "response.function_call_arguments.delta":
            self._piece("", "", _words(value["delta"]))
        elif kind in {"response.completed", "response.incomplete"}:
            self._answer.ended = True
            self._answer.finish = "length" if kind == "response.incomplete" else "stop"
            self._usage(value["response"].get("usage"))
        elif kind == "response.failed":
            self._fail(str((value["response"].get("error") or {}).get("message", "the response failed")))

    def _response(self, value: dict[str, Any]) -> None:
        """A response that came whole."""
        for item in value.get("output") or ():
            self._piece(_words(item.get("content")), "", _words(item.get("arguments")))
        self._answer.ended = True
        self._usage(value.get("usage"))

    def _piece(self, visible: str, reasoning: str, call: str) -> None:
        chars = len(visible) + len(reasoning) + len(call)
        if not chars:
            return
        answer = self._answer
        if answer.pieces_ns and answer.pieces_ns[-1] == self._at:
            answer.coalesced += 1
        answer.pieces_ns.append(self._at)
        answer.pieces_chars.append(chars)
        if visible:
            self._visible.append((self._at, visible))
        if reasoning:
            self._reasoning.append(reasoning)

    def _usage(self, usage: Any) -> None:
        """The newest counts win: some servers send running totals in every chunk."""
        if not isinstance(usage, dict):
            return
        for name, to in _COUNTS:
            if type(count := usage.get(name)) is int and 0 <= count <= MANY:
                setattr(self._answer, to, count)
        for name in ("prompt_tokens_details", "input_tokens_details"):
            if isinstance(details := usage.get(name), dict):
                self._usage({"cached_tokens": details.get("cached_tokens")})

    def _part_thoughts(self) -> None:
        """Takes thoughts that stand in the text between marks, as of engines without a channel for them, out of it."""
        answer = self._answer
        text = "".join(piece for _, piece in self._visible)
        begin, end = THINK
        from_ = 0
        if text.lstrip().startswith(begin):
            over = text.find(end)
            thought = text[: over if over >= 0 else len(text)].lstrip()[len(begin) :]
            answer.reasoning += thought
            text = text[over + len(end) :] if over >= 0 else ""
            from_ = over + len(end) + len(text) - len(text.lstrip())
            text = text.lstrip()
        answer.text = text
        seen = 0
        for at, piece in self._visible if text else ():
            seen += len(piece)
            if seen > from_:
                answer.visible_ns = at
                break


def read(data: bytes) -> Any:
    """What JSON says. Raises ValueError, RecursionError.

    `json.loads` takes a third of its time for what no event has: white space around it, and other encodings than UTF-8.
    """
    with suppress(ValueError):
        text = data.decode()
        value, end = _PLAIN.raw_decode(text)
        if end == len(text):
            return value
    return json.loads(data)


def unlike(vectors: Sequence[Any], wanted: int, width: int | None = None) -> str:
    """What makes these no vectors of so many texts (and so many numbers each), in words; empty where nothing does."""
    if len(vectors) != wanted:
        return f"{len(vectors)} vectors for {wanted} texts"
    try:
        good = all(isinstance(one, list) and one and all(map(math.isfinite, one)) for one in vectors)
    except (TypeError, OverflowError):
        good = False
    if good and {len(one) for one in vectors} == {width or len(vectors[0])}:
        return ""
    return f"vectors that are not {width or 'as many'} numbers each"


_PLAIN: Final = json.JSONDecoder()
_COUNTS: Final = (
    ("prompt_tokens", "input_tokens"), ("input_tokens", "input_tokens"), ("prompt_eval_count", "input_tokens"),
    ("completion_tokens", "output_tokens"), ("output_tokens", "output_tokens"), ("eval_count", "output_tokens"),
    ("cached_tokens", "cached_tokens"), ("cache_n", "cached_tokens"),
)  # fmt: skip


def _words(content: Any) -> str:
    """Text that stands there plain, or as a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text") or part.get("refusal") or "") for part in content)
    return ""


def _call(call: dict[str, Any]) -> str:
    function = call.get("function") or {}
    arguments = function.get("arguments") or ""
    return str(function.get("name") or "") + (arguments if isinstance(arguments, str) else json.dumps(arguments))
