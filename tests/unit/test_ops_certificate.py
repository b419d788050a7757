"""A certificate of one's own: each way in which a pair can be wrong is told, and a good one passes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ops.certificate import trouble
from tests.support.certificates import issued

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def pair(*names: str, until: datetime = NOW + timedelta(days=90)) -> tuple[str, str]:
    """(certificate, key) for these names."""
    return issued(names, until=until)


@pytest.mark.parametrize("names", [("llm.example.org",), ("*.example.org",), ("LLM.example.org", "x.org")])
def test_a_pair_that_is_good_for_the_name_passes(names: tuple[str, ...]) -> None:
    assert trouble(*pair(*names), ["llm.example.org"], NOW) is None


@pytest.mark.parametrize("names", [(), ("example.org",), ("*.llm.example.org",), ("*.org",)])
def test_a_name_that_is_not_covered_is_told(names: tuple[str, ...]) -> None:
    said = trouble(*pair(*names), ["llm.example.org"], NOW)
    assert said == "private-llm:tls-certificate is not good for llm.example.org"


def test_an_end_is_told() -> None:
    said = trouble(*pair("a.example.org", until=NOW - timedelta(days=1)), ["a.example.org"], NOW)
    assert said == "private-llm:tls-certificate ended on 2026-05-31"


def test_the_key_of_another_one_is_told() -> None:
    certificate, _ = pair("a.example.org")
    _, key = pair("a.example.org")
    assert (
        trouble(certificate, key, ["a.example.org"], NOW)
        == "private-llm:tls-key is not the key of private-llm:tls-certificate"
    )


@pytest.mark.parametrize(("certificate", "key", "what"), [("x", "", "tls-certificate"), ("", "x", "tls-key")])
def test_what_is_no_pem_is_told(certificate: str, key: str, what: str) -> None:
    good = pair("a.example.org")
    said = trouble(certificate or good[0], key or good[1], ["a.example.org"], NOW)
    assert said is not None
    assert said.startswith(f"private-llm:{what} is not a")
