"""What is asked: profiles of use, and the conversations that people of such a profile have. Pure.

Where the numbers of the built-in profiles are from:

* `chat`, `code`: Azure's trace of November 2023 (github.com/Azure/AzurePublicDataset at b469a11, arXiv 2311.18677),
  19,366 and 8,819 requests: log-normal laws with the median and the mean of its rows, within its smallest and largest.
  Answers of `chat` and both sides of `code` are that. The trace has no sessions: WildChat has 2.5 turns in a
  conversation (arXiv 2405.01470), and the questions of `chat` are as long as it takes for whole prompts, history
  included, to come within a tenth of the trace's median and mean (1020 and 1155 tokens).
* `agent`: prompts and answers have the means of Mooncake's tool and agent trace (8,596 and 182 tokens,
  github.com/kvcache-ai/Mooncake at 3b5a594, FAST'25). How many steps, how they grow and how long a tool takes: assumed.
* `rag`: assumed. Three or four passages of 1,000 characters, which is how Open WebUI cuts documents, and a question.
* `embed`: assumed. One such passage, kept within the 256 tokens that all-minilm reads.
* Seconds of thinking: assumed everywhere, reading included. No public measurement of them was found that could be
  trusted. They decide how many people a box serves, so measure your own: docs/load.md says how.
"""

from __future__ import annotations

import bisect
import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypedDict

import numpy as np
import yaml

from loadtests.workload import prompts
from loadtests.workload.lengths import Length as Length  # noqa: PLC0414  (part of a profile: imported from here)
from loadtests.workload.prompts import Ruler

MOST_TURNS: Final = 1000
MOST_TOKENS: Final = 1_000_000
SAMPLE: Final = 1000
SCENARIOS: Final = (
    "chat", "embed", "rag", "native", "native-generate", "native-embed", "ui", "ui-file", "mixed",
)  # fmt: skip
"""Names that a profile may have for its scenario; what they do is in `loadtests/users`."""
EXAMPLE: Final = "as `input: lognormal:300,1`"
LENGTHS: Final = ("input", "output", "turns", "think", "system")
_TEXT: Final = 1
_TURNS: Final = 2


class Message(TypedDict):
    """A message as OpenAI's API has it."""

    role: str
    content: str


def _length(text: str) -> Length:
    return Length.parse(text)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How people use a model. Lengths in tokens, `think` in seconds, `turns` a count."""

    name: str
    scenario: str = "chat"
    input: Length
    """What is new in a turn."""
    output: Length
    """The longest that the answer may become; questions ask for more, so that it does."""
    turns: Length = field(default_factory=lambda: _length("fixed:1"))
    """Questions in a conversation."""
    think: Length = field(default_factory=lambda: _length("fixed:0"))
    """From the end of an answer to the next question, reading included."""
    system: Length = field(default_factory=lambda: _length("fixed:0"))
    """The system prompt; every conversation has one of its own."""
    shared_prefix: int = 0
    """Tokens before everything else that are the same for all, on purpose: the server may keep them."""
    description: str = ""
    ruler: Ruler = field(default_factory=Ruler)
    """How long a token is. Set by a run that has asked the server; never written by people."""
    nonce: int = 0
    """Two runs with the same seed have the same lengths and moments, but no text in common when this differs. Set by a
    run: its server may still keep the prompts of the last one."""

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """The turns of two thousand conversations, the shortest first, summed up."""
        counts = (_clamped(round(count), 1, MOST_TURNS) for count in self.turns.grid)
        return tuple(itertools.accumulate(counts))

    @property
    def prompt_tokens(self) -> float:
        """Tokens of a request, all that goes before the question included: the mean over all requests."""
        counts = [end - start for start, end in itertools.pairwise((0, *self.ends))]
        before = sum(count * (count - 1) / 2 for count in counts) / self.ends[-1]
        return self.shared_prefix + self.system.mean + (before + 1) * self.input.mean + before * self.output.mean


@dataclass(frozen=True, slots=True)
class Turn:
    """One question, with all that went before it."""

    messages: tuple[Message, ...]
    asked_tokens: int
    """The longest that the answer may become; 0 where there is none to come."""
    think_s: float
    """How long the person thinks before this question (seconds)."""
    turn: int
    """0 for the first."""

    @property
    def answers(self) -> list[str]:
        """What was said to the questions before it, made up or not."""
        return [one["content"] for one in self.messages if one["role"] == "assistant"]


class Conversation:
    """One person's session. The same profile, seed and number are the same conversation, on any machine.

    Args:
        profile: what kind of conversation.
        seed: of the load.
        number: of the person or session, unique within the load.
        turns: how many questions; None: as many as the profile says. More of them change nothing in those before.
    """

    def __init__(self, profile: Profile, seed: int, number: int, turns: int | None = None) -> None:
        self._profile, self._seed, self._number = profile, seed, number
        rng = np.random.default_rng((seed, number))
        drawn = _clamped(profile.turns.draw(rng), 1, MOST_TURNS)
        self.turns: Final = turns or drawn
        self._system = _clamped(profile.system.draw(rng), 0, MOST_TOKENS)
        least = 0 if "embed" in profile.scenario else 1
        self._plan = [
            (
                _clamped(profile.input.draw(rng), 1, MOST_TOKENS),
                _clamped(profile.output.draw(rng), least, MOST_TOKENS),
                profile.think.sample(rng),
            )
            for _ in range(self.turns)
        ]

    def turn(self, index: int, answers: Sequence[str] = ()) -> Turn:
        """The question of this index (0 and up), and all messages before it.

        Args:
            index: which one.
            answers: what the server really said to the questions before it. Where there are fewer, the others are made
                up, as long as they were allowed to be.

        Raises:
            IndexError: the conversation has no such turn.
        """
        if not 0 <= index < self.turns:
            raise IndexError(f"a conversation of {self.turns} turns has no turn {index}")
        messages, ruler = self._head(), self._profile.ruler
        for place in range(index + 1):
            rng = np.random.default_rng((self._profile.nonce, self._seed, self._number, place, _TEXT))
            tokens, output, think = self._plan[place]
            asked = prompts.question(ruler.words(tokens), output, rng)
            messages.append({"role": "user", "content": asked})
            if place < index:
                said = answers[place] if place < len(answers) else prompts.filler(ruler.words(output), rng)
                messages.append({"role": "assistant", "content": said})
        return Turn(tuple(messages), output, think, index)

    def tokens(self, index: int) -> int:
        """How much of a model's context this turn takes: everything before it, the question, and its whole answer."""
        said = sum(asked + answer for asked, answer, _ in self._plan[: index + 1])
        return self._profile.shared_prefix + self._system + said

    def _head(self) -> list[Message]:
        profile, ruler = self._profile, self._profile.ruler
        parts = []
        if profile.shared_prefix:
            parts.append(prompts.shared(ruler.words(profile.shared_prefix), profile.nonce))
        if self._system:
            rng = np.random.default_rng((profile.nonce, self._seed, self._number, _TEXT))
            parts.append(prompts.filler(ruler.words(self._system), rng))
        return [{"role": "system", "content": "\n".join(parts)}] if parts else []


def question(profile: Profile, seed: int, number: int) -> Turn:
    """One request of an open loop, as if picked from all requests of all conversations."""
    conversation, index = picked(profile, seed, number)
    return conversation.turn(index)


def beyond(profile: Profile, context: int) -> float:
    """The share of requests that do not fit into a context of so many tokens, their answers included (to about 2 %)."""
    found = (picked(profile, 0, number) for number in range(SAMPLE))
    return sum(conversation.tokens(index) > context for conversation, index in found) / SAMPLE


def warning(profile: Profile, context: str) -> str:
    """What is to be said before a load on an engine with this context (tokens, as text); empty when it has the room.

    Engines cut what is too long, most of them silently, and answer quicker than they should.
    """
    share = beyond(profile, int(context)) if context.isdecimal() else 0.0
    if share < 0.01:
        return ""
    return (
        f"{share:.0%} of the requests of {profile.name!r} do not fit into the engine's context of {int(context):,} "
        "tokens and will be cut: take a larger engine.contextLength, or a profile of your own"
    )


def picked(profile: Profile, seed: int, number: int) -> tuple[Conversation, int]:
    """A conversation and one of its turns, picked in proportion to how many there are.

    A random turn of a random conversation would be an early one too often, and its prompt too short.
    """
    ends = profile.ends
    drawn = int(np.random.default_rng((seed, number, _TURNS)).integers(ends[-1]))
    place = bisect.bisect_right(ends, drawn)
    before = ends[place - 1] if place else 0
    return Conversation(profile, seed, number, turns=ends[place] - before), drawn - before


def _profile(name: str, description: str, **said: Any) -> Profile:
    read: dict[str, Any] = {key: Length.parse(value) if key in LENGTHS else value for key, value in said.items()}
    return Profile(name=name, description=description, **read)


_CHAT: Final = _profile(
    "chat", "people who chat: a few turns, each with all that went before",
    input="lognormal:420,0.5,2,8000", output="lognormal:129,1.07,7,1000",
    turns="lognormal:2.4,0.4,1,8", think="lognormal:30,0.9,2,300",
)  # fmt: skip

_CODE: Final = _profile(
    "code", "completions in an editor: much context, a short answer, no history",
    input="lognormal:1469,0.88,3,7437", output="lognormal:13,1.22,6,1899", think="lognormal:15,1,1,300",
)  # fmt: skip

_RAG: Final = _profile(
    "rag", "questions about documents: found passages in the prompt, a short answer", scenario="rag",
    input="lognormal:1200,0.4,200,6000", output="lognormal:150,0.7,10,1000",
    turns="lognormal:2.3,0.5,1,10", think="lognormal:40,0.9,2,300",
)  # fmt: skip

_EMBED: Final = _profile(
    "embed", "passages that are made into vectors", scenario="embed",
    input="lognormal:180,0.4,8,240", output="fixed:0",
)  # fmt: skip

PROFILES: Final[Mapping[str, Profile]] = {
    one.name: one
    for one in (
        _CHAT,
        _CODE,
        _RAG,
        _EMBED,
        _profile(
            "agent", "a program that calls tools: many steps without a pause, a prompt that grows",
            input="lognormal:480,0.9,20,8000", output="lognormal:130,0.8,10,2000", system="fixed:2500",
            turns="lognormal:8,0.6,1,40", think="lognormal:2,0.8,0.1,60",
        ),
        replace(_CHAT, name="native", scenario="native", description="as chat, through Ollama's own API"),
        replace(
            _CODE, name="native-generate", scenario="native-generate", description="as code, through Ollama's own API"
        ),
        replace(_EMBED, name="native-embed", scenario="native-embed", description="as embed, through Ollama's own API"),
        replace(_CHAT, name="ui", scenario="ui", description="as chat, by people before the pages of the chat"),
        replace(_RAG, name="ui-file", scenario="ui-file", description="as rag, by people before the pages of the chat"),
        replace(_CHAT, name="mixed", scenario="mixed", description="a team: sessions of chat, code, rag and embed"),
    )
}  # fmt: skip


def chosen(said: str) -> Profile:
    """The built-in profile of this name, or the one in this YAML file.

    Raises:
        ValueError: there is neither, or what is wrong in the file.
    """
    if said in PROFILES:
        return PROFILES[said]
    file = Path(said)
    if file.suffix in {".yaml", ".yml"} or file.is_file():
        return read(file)
    near = difflib.get_close_matches(said, PROFILES, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"PROFILE={said}: {hint}allowed are {', '.join(PROFILES)}, or the path of a YAML file")


def read(file: Path) -> Profile:
    """A profile of one's own. Raises ValueError with the file, the key, its value and what is allowed."""
    try:
        text = file.read_text()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except OSError as error:
        raise ValueError(f"the profile {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the profile {file} is no text") from None
    except yaml.YAMLError as error:
        raise ValueError(f"the profile {file} is no YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError(f"the profile {file} is nested too deeply: it is keys with values, {EXAMPLE}") from None
    except (ValueError, OverflowError) as error:  # what looks like a date or a number to YAML, and is none
        raise ValueError(f"the profile {file} has a value that is none ({error}): write it {EXAMPLE}") from None
    if not isinstance(root, yaml.MappingNode) or not isinstance(content, dict):
        raise ValueError(  # noqa: TRY004  (what a person wrote, not what a caller passed)
            f"the profile {file} must be keys with values, {EXAMPLE}"
        )
    keys = [str(key.value) for key, _ in root.value]
    if double := next((key for key in keys if keys.count(key) > 1), None):
        raise ValueError(f"{file}: {double} is there twice")
    try:
        return _checked(content, file)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _checked(content: Mapping[Any, Any], file: Path) -> Profile:
    known = [one.name for one in fields(Profile) if one.name not in {"ruler", "nonce"}]
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise ValueError(f"{key} is not known{f'; did you mean {near[0]}?' if near else ''} ({', '.join(known)})")
    for key in ("input", "output"):
        if key not in content:
            raise ValueError(f"{key} is missing; it is a length, for example {key}: lognormal:300,1")
    said: dict[str, Any] = {"name": file.stem} | {key: _value(key, value, file) for key, value in content.items()}
    if said.get("scenario", "chat") not in SCENARIOS:
        raise ValueError(f"scenario: {said['scenario']!r} is not known; allowed: {', '.join(SCENARIOS)}")
    return Profile(**said)


def _value(key: str, value: Any, file: Path) -> Any:
    """Raises ValueError with the key, its value, and what is allowed."""
    if key in LENGTHS:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{key}: {value!r} is no length")
        try:
            return Length.parse(value, file.parent)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    if key == "shared_prefix":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_TOKENS:
            raise ValueError(f"shared_prefix: {value!r} must be a whole number of tokens from 0 to {MOST_TOKENS:,}")
        return value
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable() or (key == "name" and not value):
        raise ValueError(f"{key}: {value!r} must be a text in one line, at most 200 characters")
    return value


def dump(profile: Profile) -> str:
    """The profile as a file that `read` takes."""
    content = {one.name: getattr(profile, one.name) for one in fields(Profile) if one.name not in {"ruler", "nonce"}}
    written = {key: str(value) if isinstance(value, Length) else value for key, value in content.items()}
    return yaml.safe_dump(written, sort_keys=False, allow_unicode=True, width=120)


def _clamped(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)
