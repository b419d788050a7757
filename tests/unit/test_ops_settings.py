"""Settings, passphrase and certificate authority: nothing is made twice, nothing is lost."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ops import ca, passphrase, settings
from ops.errors import OpsError

TREE = """# schema line
config:
  # what is served
  private-llm:platform:
    models: []
"""
LOST = {
    "private-llm:admin-password": {"secure": "v1:a:b"},
    "private-llm:ca-certificate": "-----BEGIN\nabc\n-----END",
}


def salt_for(text: str) -> str:
    """A salt as Pulumi writes it."""
    salt, nonce = b"12345678", b"123456789012"
    key = hashlib.pbkdf2_hmac("sha256", text.encode(), salt, passphrase.ROUNDS, 32)
    sealed = AESGCM(key).encrypt(nonce, b"pulumi", None)
    return (
        ":".join(["v1", *(base64.b64encode(part).decode() for part in (salt,)), "v1"])
        + ":"
        + ":".join(base64.b64encode(part).decode() for part in (nonce, sealed))
    )


def test_passphrase_opens_only_its_own_salt() -> None:
    salt = salt_for("right")
    assert passphrase.opens("right", salt)
    assert not passphrase.opens("wrong", salt)


@pytest.mark.parametrize("salt", ["v1:a:v1:b:c", "v1:!!!!:v1:AAAA:AAAA", "v1:7OHLvAbqkWo=:v1:AAAA:AAAA"])
def test_a_damaged_salt_is_told(salt: str) -> None:
    with pytest.raises(OpsError, match=r"encryptionsalt is damaged(.|\n)*fix:"):
        passphrase.opens("any", salt)


def test_a_passphrase_is_never_made_over_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVATE_LLM_STATE", str(tmp_path / "state"))
    path = passphrase.generate("dev")
    first = path.read_text()
    with pytest.raises(OpsError, match="run this again"):
        passphrase.generate("dev")
    assert path.read_text() == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["dev"]


def test_passphrase_known_answer_of_pulumi() -> None:
    assert passphrase.opens("pass1", "v1:7OHLvAbqkWo=:v1:9L6Z2kRpLKk0PU8e:smKhGeQ9oS/Ix49IqfZ04s9p/u5zkA==")


def test_wrong_passphrase_names_both_files(tmp_path: Path) -> None:
    file = tmp_path / "dev"
    file.write_text("wrong\n")
    with pytest.raises(OpsError, match=r"wrong passphrase: .*dev .*Pulumi\.dev\.yaml"):
        passphrase.check(file, salt_for("right"), tmp_path / "Pulumi.dev.yaml")
    assert file.stat().st_mode & 0o077 == 0


def test_restore_keeps_comments_and_adds_salt_and_secrets() -> None:
    text = settings.restore(TREE, LOST, "v1:salt")
    data = yaml.safe_load(text)
    assert data["encryptionsalt"] == "v1:salt"
    assert data["config"] == {**LOST, "private-llm:platform": {"models": []}}
    assert "# schema line" in text
    assert "# what is served" in text
    assert "ca-certificate: |-" in text


def test_restore_of_a_file_without_a_plain_config_line() -> None:
    data = yaml.safe_load(settings.restore("config: {}\n", LOST, "v1:salt"))
    assert data == {"encryptionsalt": "v1:salt", "config": LOST}


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("private-llm:admin-password", True),
        ("private-llm:key-default", True),
        ("private-llm:ca-key", True),
        ("private-llm:ca-certificate", True),
        ("private-llm:platform", False),
        ("other:key-default", False),
    ],
)
def test_generated_keys_are_told_from_written_ones(name: str, ours: bool) -> None:
    assert settings.generated(name) is ours


def test_secrets_have_256_bits_and_differ() -> None:
    makers = settings.wanted(("default", "chat"))
    assert {"private-llm:key-default", "private-llm:key-chat", "private-llm:admin-password"} <= set(makers)
    made = [make() for make in makers.values()] + [make() for make in makers.values()]
    assert len(set(made)) == len(made)
    key = makers["private-llm:key-default"]()
    assert key.startswith("sk-")
    assert len(key) == 3 + 43


def test_settings_file_that_is_missing_names_the_others(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text("config: {}\n")
    with pytest.raises(OpsError, match=r"no Pulumi\.prod\.yaml(.|\n)*STACK=dev"):
        settings.read(tmp_path / "Pulumi.prod.yaml")


@pytest.mark.parametrize("text", ["a: [", "- list\n", "config: words\n"])
def test_settings_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "Pulumi.dev.yaml"
    path.write_text(text)
    with pytest.raises(OpsError, match=r"Pulumi\.dev\.yaml"):
        settings.read(path)


def test_authority_is_constrained_to_this_gateway() -> None:
    _key, certificate = ca.create("private-llm dev root CA", ("llm.home.arpa", "192.168.7.9"), "127.0.0.1")
    parsed = x509.load_pem_x509_certificate(certificate.encode())
    constraints = parsed.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    permitted = [str(entry.value) for entry in constraints.value.permitted_subtrees or ()]
    assert permitted == ["llm.home.arpa", "localhost", "127.0.0.0/8", "::1/128", "192.168.7.9/32"]
    basic = parsed.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 1)
    assert (parsed.not_valid_after_utc - parsed.not_valid_before_utc).days == 3650


@pytest.mark.parametrize(
    ("hosts", "outside"),
    [
        (("localhost",), []),
        (("chat.llm.home.arpa",), []),
        (("127.0.0.9",), []),
        (("evil-llm.home.arpa", "other.test"), ["evil-llm.home.arpa", "other.test"]),
        (("192.168.7.9",), ["192.168.7.9"]),
    ],
)
def test_host_names_outside_the_authority_are_found(hosts: tuple[str, ...], outside: list[str]) -> None:
    _key, certificate = ca.create("x", ("llm.home.arpa",), "127.0.0.1")
    assert ca.uncovered(certificate, hosts) == outside
