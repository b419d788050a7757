"""While a load test runs, one file differs: the gateway's consumers, by somebody without limits and with an end."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import pulumi
import pytest

from tests.support.recorder import record, refusal, walk
from tests.support.samples import PROJECT, SAMPLES, Sample

KEY: Final = f"{PROJECT}:key-load"
ENDS: Final = f"{PROJECT}:load-expires"
SEED: Final = "gateway-consumers"


@dataclass(frozen=True)
class Loaded(Sample):
    """A sample during a load test."""

    ends: str | None = "2027-01-31T00:00:00Z"

    @property
    def config(self) -> dict[str, str]:
        return {**super().config, KEY: "sk-load", **({ENDS: self.ends} if self.ends else {})}

    @property
    def secret_keys(self) -> list[str]:
        return [*super().secret_keys, KEY]


def during(sample: Sample, **more: Any) -> Loaded:
    return Loaded(**{field.name: getattr(sample, field.name) for field in fields(Sample)}, **more)


@pytest.mark.parametrize("name", ["dev", "public", "own", "elsewhere"])
def test_only_the_consumers_file_differs_and_it_stays_secret(name: str) -> None:
    before, now = record(SAMPLES[name]), record(during(SAMPLES[name]))
    changed = [a.name for a, b in zip(before.resources, now.resources, strict=True) if a != b]
    assert changed == [f"{SEED}-seed"]
    texts = [(text, secret) for _, text, secret in walk(now.one(f"{SEED}-seed").inputs) if '"load"' in text]
    assert [secret for _, secret in texts] == [True]
    assert "sk-load" not in texts[0][0]


def test_it_may_all_that_is_measured_without_a_limit_until_its_end() -> None:
    before, now = (json.loads(record(one).file(SEED))["consumers"] for one in (SAMPLES["dev"], during(SAMPLES["dev"])))
    assert now[:-1] == before
    unlimited = {name for name, value in now[-1].items() if value is None}
    assert unlimited == {
        "password_bcrypt", "requests_per_minute", "burst", "concurrent_streams", "tokens_per_minute", "tokens_per_day",
        "max_output_tokens", "max_body", "max_duration",
    }  # fmt: skip
    assert now[-1]["name"] == "load"
    assert now[-1]["scopes"] == ["chat", "embeddings", "native"]
    assert now[-1]["models"] == ["*"]
    assert now[-1]["expires"] == "2027-01-31T00:00:00+00:00"


def test_a_key_without_an_end_opens_nothing() -> None:
    assert record(during(SAMPLES["dev"], ends=None)).resources == record(SAMPLES["dev"]).resources


def test_a_consumer_of_that_name_is_not_given_the_test_key(tmp_path: Path) -> None:
    theirs = SAMPLES["dev"].variant(tmp_path, {"consumers": [{"name": name} for name in ("default", "chat", "load")]})
    error, registered = refusal(during(theirs))
    assert isinstance(error, pulumi.RunError)
    assert "there is one of that name already" in str(error)
    assert registered == []
