"""What is typed wrong at `make load`, beyond the words of its run: told before anything is deployed."""

from __future__ import annotations

import os
from typing import Any, Final

import pytest

from ops import load as loads
from ops.__main__ import main as command_line
from ops.errors import OpsError
from ops.request import Request
from stack.config.explain import parse_platform
from stack.config.model import Platform

CHATS: Final = {"name": "tiny", "aliases": ["default"]}
EMBEDS: Final = {"name": "all-minilm", "role": "embedding", "aliases": ["vectors"]}
REQUEST: Final = Request(command="load", url="https://llm.example.org/v1/")
SIGNS_IN: Final = {"LOAD_CHAT_EMAIL": "ann@example.org", "LOAD_CHAT_PASSWORD": "pass word"}


def of(tree: dict[str, Any]) -> Platform:
    return parse_platform({"consumers": [{"name": "default"}, {"name": "chat"}], **tree}, source="test")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"PROFILE": "mixed", "MIX": "chat=0"}, "MIX=chat=0: 'chat=0': a share is a number above 0"),
        ({"USERS": "1", "OUT": "/proc/none"}, "OUT=/proc/none: no report can be written there"),
        ({"RATE": "1", "ARRIVALS": "often"}, "ARRIVALS=often: allowed are constant"),
        ({"USERS": "1", "PROCESSES": "256"}, "PROCESSES=256: this machine has"),
        ({"USERS": "1", "GATE": "1", "BASELINES": "/nowhere"}, "GATE=1: there is no baseline in /nowhere yet"),
    ],
)
def test_what_the_run_would_only_notice_later_is_refused_before_anything_is_deployed(
    given: dict[str, str], said: str
) -> None:
    with pytest.raises(OpsError, match=r".+") as raised:
        loads.given(given)
    assert said in str(raised.value)


def test_what_kept_a_load_from_being_measured_is_no_failed_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("STACK", "URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("USERS", "many")
    assert command_line(["load"]) == 2
    assert "error: USERS=many" in capsys.readouterr().err
    monkeypatch.setenv("FORMAT", "many")
    assert command_line(["plan"]) == 1


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ({"PROFILE": "embed"}, "all-minilm"),
        ({"PROFILE": "embed", "MODEL": "vectors"}, "vectors"),
        ({"PROFILE": "mixed", "MIX": "embed=1,chat=1", "MODEL": "tiny"}, "all-minilm"),
        ({"PROFILE": "rag", "MODEL": "huge"}, "MODEL=huge: no model of this stack has that name"),
        (
            {"PROFILE": "embed", "MODEL": "tiny"},
            "MODEL=tiny: PROFILE=embed asks for vectors, which tiny does not make",
        ),
        ({"PROFILE": "native-embed", "MODEL": "default"}, "there are all-minilm, vectors"),
        (
            {"MODEL": "vectors"},
            "MODEL=vectors: PROFILE=chat asks for answers, which vectors does not make; there are",
        ),
        ({"PROFILE": "mixed", "MODEL": "all-minilm"}, "does not make; there are default, tiny"),
    ],
)
def test_a_model_does_what_the_profile_asks_of_it(words: dict[str, str], found: str) -> None:
    platform, given = of({"models": [CHATS, EMBEDS]}), {f"LOAD_{name}": value for name, value in words.items()}
    if found in {"all-minilm", "vectors"}:
        assert loads.models(platform, given) == {"LOAD_EMBEDDING_MODEL": found}
        return
    with pytest.raises(OpsError, match=r".+") as raised:
        loads.models(platform, given)
    assert found in str(raised.value)


def test_a_stack_that_makes_no_vectors_is_not_asked_for_some() -> None:
    platform = of({"models": [CHATS], "memory": {"enabled": False}})
    assert loads.models(platform, {"LOAD_PROFILE": "code"}) == {}
    for profile in ("rag", "embed", "mixed"):
        with pytest.raises(OpsError, match=rf"PROFILE={profile} asks for vectors, and no model(.|\n)*role: embedding"):
            loads.models(platform, {"LOAD_PROFILE": profile})


def test_a_certificate_is_for_another_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"USERS": "1"})
    with pytest.raises(OpsError, match=r"CA=root\.crt would do nothing here: it is for URL=…"):
        loads.load(Request(command="load", ca="root.crt"))


@pytest.mark.parametrize(
    ("words", "gets"),
    [
        ({"LOAD_PROFILE": "ui"}, "ann@example.org pass word e5"),
        ({"LOAD_PROFILE": "mixed", "LOAD_MIX": "chat=1,ui-file=1"}, "ann@example.org pass word e5"),
        ({"LOAD_PROFILE": "rag"}, "None None e5"),
    ],
)
def test_people_of_its_chat_sign_in_as_the_shell_says(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: dict[str, str], gets: str
) -> None:
    names = (*SIGNS_IN, "LOAD_EMBEDDING_MODEL")
    script = f"import os, sys; print(sys.argv[1:], *(os.environ.get(n) for n in {names}))"
    monkeypatch.setattr(loads, "RUN", ("-c", script))
    shell = {"KEY": "k", "PATH": os.environ["PATH"], "LOAD_EMBEDDING_MODEL": "e5", **SIGNS_IN}
    assert loads.elsewhere(REQUEST, words, shell) == 0
    captured = capfd.readouterr()
    assert captured.out == f"[] {gets}\n"
    assert "pass word" not in captured.err


def test_who_signs_in_has_to_be_said() -> None:
    for name, missing in (
        ("LOAD_CHAT_EMAIL", "LOAD_CHAT_PASSWORD is"),
        ("LOAD_CHAT_PASSWORD", "LOAD_CHAT_EMAIL is"),
    ):
        with pytest.raises(OpsError, match=rf"PROFILE=ui: .* {missing} not set\nfix: .*read -rs LOAD_CHAT_PASSWORD"):
            loads.elsewhere(REQUEST, {"LOAD_PROFILE": "ui"}, {"KEY": "k", name: SIGNS_IN[name]})
    with pytest.raises(OpsError, match="LOAD_CHAT_EMAIL and LOAD_CHAT_PASSWORD are not set"):
        loads.elsewhere(REQUEST, {"LOAD_PROFILE": "ui"}, {"KEY": "k"})
