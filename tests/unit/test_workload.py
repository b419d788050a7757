"""Profiles and the conversations that are made of them: lengths, words, and what a person may write."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.runs.words import WORDS
from loadtests.workload import lengths, profiles
from loadtests.workload.profiles import PROFILES, Conversation, Length, Profile, Turn
from loadtests.workload.prompts import Ruler
from tests.support.samples import ROOT
from tests.unit.test_purity import imported

CHAT = PROFILES["chat"]


def profile(**changes: Any) -> Profile:
    said: dict[str, Any] = {
        key: Length.parse(value) if key in profiles.LENGTHS else value for key, value in changes.items()
    }
    return replace(CHAT, **said)


def words(turn: Turn) -> list[int]:
    return [len(one["content"].split()) for one in turn.messages]


# --- lengths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mean", "least", "most"),
    [
        ("fixed:200", 200, 200, 200),
        ("17", 17, 17, 17),
        ("normal:100,20", 100, 0, 250),
        ("normal:100,50,80,120", 100, 80, 120),
        ("lognormal:100,0.5", 100 * np.exp(0.125), 5, 1500),
        ("lognormal:100,1,50,200", 116.1, 50, 200),
        ("values:1,2,9", 4, 1, 9),
    ],
)
def test_lengths_have_the_mean_and_the_bounds_of_their_law(text: str, mean: float, least: float, most: float) -> None:
    rng, length = np.random.default_rng(1), Length.parse(text)
    drawn = [length.draw(rng) for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(mean, rel=0.03)
    assert length.mean == pytest.approx(mean, rel=0.02)
    assert least <= min(drawn) <= max(drawn) <= most
    assert Length.parse(str(length)) == length


def test_every_law_takes_one_number_so_what_follows_stays_the_same() -> None:
    ends = set()
    for text in ("fixed:3", "normal:5,1", "lognormal:5,1", "values:1,2"):
        rng = np.random.default_rng(1)
        Length.parse(text).draw(rng)
        ends.add(float(rng.random()))
    assert len(ends) == 1


def test_a_trace_is_read_beside_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "lengths.txt").write_text("# measured\n10\n\n30  # once\n20\n")
    length = Length.parse("trace:lengths.txt", tmp_path)
    assert list(length.values) == [10, 20, 30]
    assert str(length) == "trace:lengths.txt"
    assert {length.draw(np.random.default_rng(seed)) for seed in range(50)} == {10, 20, 30}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no length; allowed: fixed:200"),
        ("lognorm:1,2", "no length"),
        ("normal:5", "no length"),
        ("fixed:1,2", "no length"),
        ("fixed:x", "no length"),
        ("lognormal:1,nan", "no length"),
        ("values:", "no length"),
        ("fixed:-1", "from 0 to"),
        ("lognormal:0,1", "median"),
        ("lognormal:10,6", "sigma at most 5"),
        ("normal:1,1,9,3", "low end 9 is above the high end 3"),
        ("trace:nowhere.txt", "cannot be read: No such file"),
    ],
)
def test_lengths_that_are_none_are_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Length.parse(text)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"10\nx\n", "line 2: 'x' is no number"), (b"# none\n", "has 0 numbers"), (b"\xff\xfe", "it is no text")],
)
def test_traces_that_are_none_are_refused_with_the_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "trace").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        Length.parse("trace:trace", tmp_path)


@settings(deadline=None)
@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=400))
def test_a_summary_keeps_the_mean(values: list[int]) -> None:
    # Values are rounded; groups differ by one in size.
    found = lengths.summary(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1 + (max(values) - min(values)) / 40)
    assert Length.parse(str(found)) == found


# --- conversations ---------------------------------------------------------------------------------------------------


def test_the_same_person_says_the_same_on_any_machine() -> None:
    def told(number: int, seed: int = 3, who: Profile = CHAT) -> str:
        one = Conversation(who, seed, number)
        return json.dumps([one.turn(index).messages for index in range(one.turns)])

    assert told(5) == told(5)
    assert len({told(5), told(6), told(5, seed=4), told(5, who=replace(CHAT, nonce=1))}) == 4
    travelled = pickle.loads(pickle.dumps(CHAT))
    assert travelled == CHAT
    assert told(5, who=travelled) == told(5)


def test_lengths_and_moments_stay_when_only_the_words_are_others() -> None:
    a, b = Conversation(CHAT, 1, 2), Conversation(replace(CHAT, nonce=9), 1, 2)
    last = a.turns - 1
    assert (a.turns, words(a.turn(last)), a.turn(last).think_s) == (b.turns, words(b.turn(last)), b.turn(last).think_s)
    assert a.turn(0).messages != b.turn(0).messages


def test_the_history_grows_and_what_was_said_stays() -> None:
    one = Conversation(profile(turns="fixed:4", system="fixed:50"), 1, 1)
    turns = [one.turn(index) for index in range(4)]
    for before, after in pairwise(turns):
        assert after.messages[: len(before.messages)] == before.messages, "the server keeps what it has seen"
        assert len(after.messages) == len(before.messages) + 2
    roles = [message["role"] for message in turns[-1].messages]
    assert roles == ["system", *["user", "assistant"] * 3, "user"]
    assert [turn.turn for turn in turns] == [0, 1, 2, 3]
    with pytest.raises(IndexError, match="no turn 4"):
        one.turn(4)


def test_real_answers_take_the_place_of_made_up_ones() -> None:
    one = Conversation(profile(turns="fixed:3"), 1, 1)
    messages = one.turn(2, ["what was really said"]).messages
    assert messages[1]["content"] == "what was really said"
    assert messages[3]["content"] == one.turn(2).messages[3]["content"] != messages[1]["content"]
    assert messages[0] == one.turn(0).messages[0]


def test_messages_are_as_long_as_the_ruler_says() -> None:
    ruler = Ruler(tokens_per_word=2, per_message=10)
    who = replace(profile(input="fixed:210", output="fixed:110", system="fixed:50", turns="fixed:2"), ruler=ruler)
    turn = Conversation(who, 1, 1).turn(1)
    assert words(turn) == [20, 100, 50, 100]
    assert turn.asked_tokens == 110


def test_conversations_share_nothing_but_what_they_are_meant_to() -> None:
    def beginnings(who: Profile) -> set[str]:
        texts = [Conversation(who, 1, number).turn(0).messages[0]["content"] for number in range(300)]
        return {" ".join(text.split()[:5]) for text in texts}

    assert len(beginnings(CHAT)) == 300
    assert len(beginnings(profile(system="fixed:100"))) == 300
    assert len(beginnings(replace(CHAT, shared_prefix=100))) == 1
    shared = [Conversation(replace(CHAT, shared_prefix=100), seed, seed).turn(0).messages for seed in (1, 2)]
    assert shared[0][0] == shared[1][0], "the same for every seed of a run"
    assert shared[0][1] != shared[1][1]
    assert len(shared[0][0]["content"].split()) == Ruler().words(100)


def test_more_turns_change_nothing_in_those_before() -> None:
    short, long = (Conversation(CHAT, 1, 8, turns=turns) for turns in (2, 9))
    assert short.turn(1) == long.turn(1)


def test_embeddings_have_no_answer_and_chats_always_have_one() -> None:
    assert Conversation(PROFILES["embed"], 1, 1).turn(0).asked_tokens == 0
    assert Conversation(profile(output="fixed:0"), 1, 1).turn(0).asked_tokens == 1


def test_requests_of_an_open_loop_are_picked_as_if_from_all_requests() -> None:
    """Not an early turn too often: that is what a random turn of a random conversation would be."""
    who = profile(turns="values:1,9", input="fixed:10", output="fixed:10")
    picked = [profiles.question(who, 1, number).turn for number in range(1500)]
    counts = np.bincount(picked, minlength=9)
    # Of every ten requests two are first ones, and each later turn is one.
    assert counts[0] == pytest.approx(300, abs=4 * np.sqrt(1500 * 0.2 * 0.8))
    assert counts[1:] == pytest.approx(150, abs=4 * np.sqrt(1500 * 0.1 * 0.9))
    assert profiles.question(who, 1, 7) == profiles.question(who, 1, 7)


def test_what_a_context_has_no_room_for_is_counted() -> None:
    who = replace(profile(turns="fixed:2", input="fixed:100", output="fixed:50", system="fixed:20"), shared_prefix=30)
    assert [Conversation(who, 1, 1).tokens(index) for index in (0, 1)] == [200, 350]
    assert [profiles.beyond(who, context) for context in (199, 350)] == [1, 0]
    assert profiles.beyond(who, 200) == pytest.approx(0.5, abs=0.06)


def test_requests_that_will_be_cut_are_told_beforehand() -> None:
    assert re.match(
        r"\d\d% of the requests of 'agent' do not fit into the engine's context of 4,096",
        profiles.warning(PROFILES["agent"], "4096"),
    )
    assert [profiles.warning(PROFILES["agent"], context) for context in ("131072", "", "not known")] == [""] * 3


# --- profiles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "median", "mean", "answer"),
    [("chat", 1020, 1155, 211), ("code", 1469, 2048, 28), ("agent", None, 8596, 182)],
)
def test_requests_of_built_in_profiles_are_as_long_as_their_source_says(
    name: str, median: float | None, mean: float, answer: float
) -> None:
    who = replace(PROFILES[name], ruler=Ruler(1, 0))
    turns = [profiles.question(who, 1, number) for number in range(700)]
    sizes = [sum(words(turn)) for turn in turns]
    assert np.mean(sizes) == pytest.approx(mean, rel=0.1)
    assert np.mean(sizes) == pytest.approx(who.prompt_tokens, rel=0.1)
    assert np.mean([turn.asked_tokens for turn in turns]) == pytest.approx(answer, rel=0.2)
    if median:
        assert np.median(sizes) == pytest.approx(median, rel=0.12)


def test_every_profile_is_described_by_its_name_and_survives_a_file(tmp_path: Path) -> None:
    assert {"chat", "code", "rag", "embed", "agent"} <= set(PROFILES)
    for name, one in PROFILES.items():
        assert (one.name, bool(one.description)) == (name, True)
        file = tmp_path / f"{name}.yaml"
        file.write_text(profiles.dump(one))
        assert profiles.read(file) == one


def test_a_profile_is_chosen_by_name_or_file(tmp_path: Path) -> None:
    assert profiles.chosen("rag") is PROFILES["rag"]
    file = tmp_path / "team.yaml"
    file.write_text("input: lognormal:300,1\noutput: 120\nturns: 3\nshared_prefix: 40\n")
    one = profiles.chosen(str(file))
    assert (one.name, one.scenario, str(one.output), str(one.turns)) == ("team", "chat", "fixed:120", "fixed:3")
    with pytest.raises(ValueError, match=r"PROFILE=chatt: did you mean chat\? allowed are chat, code, .*YAML file"):
        profiles.chosen("chatt")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("input: 1\noutput: 1\nturn: 2\n", r"turn is not known; did you mean turns\?"),
        ("input: 1\n", "output is missing"),
        ("input: 1\noutput: 1\ninput: 2\n", "input is there twice"),
        ("input: 1\noutput: lognormal:5\n", "output: 'lognormal:5' is no length; allowed: fixed:200"),
        ("input: [1]\noutput: 1\n", r"input: \[1\] is no length"),
        ("input: 1\noutput: yes\n", "output: True is no length"),
        ("input: 1\noutput: 1\nscenario: chats\n", "scenario: 'chats' is not known; allowed: chat, embed"),
        ("input: 1\noutput: 1\nshared_prefix: 1.5\n", "shared_prefix: 1.5 must be a whole number"),
        ("input: 1\noutput: 1\nname: ''\n", "name: '' must be a text"),
        ("input: 1\noutput: 1\nruler: 1\n", "ruler is not known"),
        ("input: trace:x\noutput: 1\n", "input: trace:x: .*cannot be read"),
        ("- 1\n", "must be keys with values"),
        ("", "must be keys with values"),
        ("a: [\n", "is no YAML"),
        ("input: " + "[" * 5000, "is nested too deeply"),
        (
            "input: 2020-13-45\noutput: 1\n",
            r"a value that is none \(month must be.*write it as `input: lognormal:300,1`",
        ),
        (f"input: {'9' * 5000}\noutput: 1\n", "a value that is none .*5000 digits"),
        (f"input: {'9' * 4000}\noutput: 1\n", "input: a number of hundreds of digits; every number must be from 0"),
        (f"input: 1\noutput: 1\nshared_prefix: 0x{'f' * 5000}\n", "Exceeds the limit"),
    ],
)
def test_a_wrong_profile_is_refused_with_key_value_and_what_is_allowed(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=words) as raised:
        profiles.chosen(str(file))
    assert str(file) in str(raised.value)


def test_a_trace_lies_beside_the_profile_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "lengths.txt").write_text("7\n")
    (tmp_path / "mine.yaml").write_text("input: trace:lengths.txt\noutput: 5\n")
    assert profiles.read(tmp_path / "mine.yaml").input.values == (7.0,)


def test_the_page_has_the_profiles_and_the_words_of_a_run() -> None:
    page = (ROOT / "docs" / "load.md").read_text()
    rows = ["| `PROFILE` | new in a turn | answer | turns | thinking | a whole prompt |", "|---|---|---|---|---|---|"]
    rows += [
        f"| `{one.name}`: {one.description} | {_cell(one.input)} | {_cell(one.output)} | {_cell(one.turns)} | "
        f"{_cell(one.think)} s | {one.prompt_tokens:,.0f} |"
        for one in PROFILES.values()
    ]
    assert "\n".join(rows) in page, "\n".join(rows)
    told = set(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))
    missing = [word for word in WORDS if not any(f"`{word}`" in cell for cell in told)]
    assert missing == []


def test_the_example_of_the_page_is_a_profile(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "load.md").read_text()
    file = tmp_path / "team.yaml"
    file.write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    one = profiles.read(file)
    assert (one.name, one.turns.values, one.think.high) == ("team", (1, 1, 2, 3, 6), 600)


def _cell(length: Length) -> str:
    """Short, for people: the law's first two numbers."""
    return f"{length.first:g}" + (f", {length.second:g}" if length.second else "")


def test_a_profile_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        profiles.chosen(str(tmp_path / "no.yaml"))


def test_what_is_asked_is_known_without_what_asks() -> None:
    modules = [f"loadtests.workload.{name}" for name in ("lengths", "prompts", "profiles", "arrivals", "replay")]
    assert imported(*modules) == ({}, [])
