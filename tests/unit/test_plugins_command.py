"""The command plugin's stand-in follows command 1.2.1: what replaces, what runs, what is shown, what is refused."""

from __future__ import annotations

import threading
import time

import pytest
from google.protobuf.struct_pb2 import Struct

from offline.plugins import command_rules as rules
from offline.plugins import values
from offline.plugins.command_runs import CommandFailed, Runner, environment

SECRET = {values.MARK: values.IS_SECRET}


def struct(found: dict[str, object]) -> Struct:
    made = Struct()
    made.update(found)
    return made


def run(command: str, log: list[str] | None = None, **inputs: object) -> tuple[str, str]:
    lines = [] if log is None else log
    return Runner().run(command, inputs, ("", ""), lines.append)


def test_triggers_replace_and_everything_else_updates() -> None:
    old = {"create": "a", "triggers": [1], "environment": {"A": "1"}}
    assert rules.replaces(values.changed(old, {**old, "environment": {"A": "2"}})) == []
    assert rules.replaces(values.changed(old, {**old, "triggers": [2]})) == ["triggers"]
    assert values.changed(old, dict(old)) == []
    assert values.changed(old, {"create": "a", "triggers": [1]}) == ["environment"]
    assert values.changed(old, {**old, "create": values.UNKNOWN}) == ["create"]


def test_an_update_runs_update_or_create_again() -> None:
    assert rules.command_for_update({"create": "c", "update": "u"}) == "u"
    assert rules.command_for_update({"create": "c"}) == "c"
    assert rules.command_for_update({"delete": "d"}) is None


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"crate": "x"}, "crate is not an input"),
        ({"assetPaths": ["*"]}, "needs the official command plugin"),
        ({"logging": "loud"}, "one of stdout, stderr"),
        ({"environment": "A=1"}, "has to be a map"),
    ],
)
def test_what_is_not_known_is_refused_in_a_sentence(inputs: dict[str, object], words: str) -> None:
    [(name, reason)] = rules.problems(rules.LOCAL, inputs, values.holds_unknown)
    assert name in inputs
    assert words in reason


def test_good_inputs_and_unknown_ones_pass() -> None:
    inputs = {"create": values.UNKNOWN, "triggers": [1, {"a": None}], "environment": {"A": "1"}, "logging": "none"}
    assert rules.problems(rules.LOCAL, inputs, values.holds_unknown) == []


def test_remote_commands_are_refused_with_the_way_out() -> None:
    [(_, reason)] = rules.problems("command:remote:Command", {}, values.holds_unknown)
    assert "official command plugin" in reason


def test_streams_are_kept_apart_and_lose_their_last_newline_only() -> None:
    assert run("echo out; echo; echo err >&2") == ("out\n", "err")
    assert run("cat", stdin="a\nb") == ("a\nb", "")
    assert run("print(1+1)", interpreter=["python3", "-c"]) == ("2", "")


def test_only_the_asked_streams_are_shown() -> None:
    for logging, shown in (("stdout", ["o"]), ("stderr", ["e"]), ("none", []), (None, ["o", "e"])):
        log: list[str] = []
        run("echo o; sleep 0.02; echo e >&2", log, **({"logging": logging} if logging else {}))
        assert log == shown, logging


def test_a_failure_tells_status_command_and_output() -> None:
    with pytest.raises(CommandFailed, match=r"exit status 3: running 'echo why >&2; exit 3':\nwhy"):
        run("echo why >&2; exit 3")
    with pytest.raises(CommandFailed, match="No such file"):
        run("x", interpreter=["/nowhere/sh"])


def test_the_last_output_is_in_the_environment_unless_declined() -> None:
    got = environment({"environment": {"N": 1, "B": True}}, ("out", ""), {"PATH": "/bin"})
    assert got == {"PATH": "/bin", "N": "1", "B": "true", "PULUMI_COMMAND_STDOUT": "out"}
    assert environment({"addPreviousOutputInEnv": False}, ("out", "err"), {}) == {}


def test_a_cancellation_ends_the_command_and_its_children() -> None:
    runner, failures = Runner(), []

    def work() -> None:
        try:
            runner.run("sleep 60 & wait", {}, ("", ""), lambda _: None)
        except CommandFailed as failure:
            failures.append(str(failure))

    thread = threading.Thread(target=work)
    thread.start()
    while not runner.groups:
        time.sleep(0.005)
    runner.cancel()
    thread.join(timeout=2)
    assert not thread.is_alive()
    assert failures[0].startswith("signal: SIGTERM")


def test_secrets_unknowns_and_numbers_are_read_from_the_wire() -> None:
    message = struct({"a": {**SECRET, "value": ["deep", {"k": "x"}]}, "b": values.UNKNOWN_TEXT, "n": 3.0, "z": None})
    assert values.properties(message) == {"a": ["deep", {"k": "x"}], "b": values.UNKNOWN, "n": 3}
    assert values.has_secret(message.fields["a"])
    assert not values.has_secret(message.fields["n"])
    assert values.secret_texts(message.fields["a"]) == {"deep", "x"}


def test_an_output_can_be_secret_or_unknown() -> None:
    message = struct({})
    values.put(message.fields, "stdout", "word", secret=True)
    values.put(message.fields, "stderr", None, secret=False)
    assert values.has_secret(message.fields["stdout"])
    assert values.properties(message) == {"stdout": "word", "stderr": values.UNKNOWN}
