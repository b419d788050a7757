"""`make contract`: which words make which command line, and that the key is in none."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.contract import words
from ops.errors import OpsError
from ops.request import Request, parse


def request(**env: str) -> Request:
    return parse("contract", env)


def test_without_words_the_suite_starts_a_gateway_of_its_own() -> None:
    assert words(request(), "sk-of-the-shell") == ["-m", "pytest", "tests/contract", "-q"]
    assert words(request(SLOW="1"), "")[-1] == "--slow"


def test_a_deployed_platform_is_named_and_its_key_is_not(tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.touch()
    line = words(request(URL="https://llm.example.org", CA=str(ca)), "sk-secret")
    assert line[-2:] == ["--url=https://llm.example.org", f"--ca={ca}"]
    assert "sk-secret" not in " ".join(line)
    assert words(request(URL="https://a.example", WRONG_PASSWORDS="1"), "sk-secret")[-1] == "--wrong-passwords"
    assert words(request(URL="https://a.example", WRONG_PASSWORDS="0"), "sk-secret")[-1] == "--url=https://a.example"


@pytest.mark.parametrize(
    ("env", "key", "said"),
    [
        ({"URL": "https://a.example"}, "", "export KEY"), ({"URL": "http://a.example"}, "k", "https://"),
        ({"URL": "https://a.example/v1"}, "k", "https://"),
        ({"URL": "https://a.example", "CA": "/nowhere"}, "k", "no such file"),
        ({"CA": "/nowhere"}, "", "URL="), ({"WRONG_PASSWORDS": "1"}, "", "URL="),
        ({"URL": "https://a.example", "WRONG_PASSWORDS": "yes"}, "k", "WRONG_PASSWORDS=1"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(env: dict[str, str], key: str, said: str) -> None:
    with pytest.raises(OpsError, match=said):
        words(request(**env), key)
