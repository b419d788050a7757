"""A certificate of one's own for the gateway (`tls.mode: certificate`): there, good for its names, with its key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from ops import settings
from ops.errors import OpsError
from ops.pulumi import PROJECT, Pulumi
from stack.config.gateway import TlsMode
from stack.config.model import Platform

CERTIFICATE: Final = f"{PROJECT}:tls-certificate"
KEY: Final = f"{PROJECT}:tls-key"


def check(pulumi: Pulumi, configured: Platform) -> None:
    """Raises OpsError with what is missing or wrong, before anything is deployed."""
    if configured.gateway.tls.mode is not TlsMode.CERTIFICATE:
        return
    found = settings.read(pulumi.file)
    if missing := [name for name in (CERTIFICATE, KEY) if name not in found.names]:
        raise OpsError(
            f"{pulumi.file.name}: gateway.tls.mode is certificate, and there is no {' and no '.join(missing)}\n"
            f'fix: eval "$(make -s env STACK={pulumi.stack})", then `pulumi config set {CERTIFICATE} < fullchain.pem` '
            f"and `pulumi config set --secret {KEY} < key.pem`"
        )
    text, key = str(found.config[CERTIFICATE]), pulumi.call("config", "get", KEY)
    if wrong := trouble(text, key, configured.gateway.names, datetime.now(UTC)):
        raise OpsError(f"{pulumi.file.name}: {wrong}\nfix: set {CERTIFICATE} and {KEY} to a pair that is good")


def trouble(certificate: str, key: str, names: Sequence[str], now: datetime) -> str | None:
    """What is wrong with a pair of PEM texts, or None."""
    try:
        (leaf, *_) = x509.load_pem_x509_certificates(certificate.encode())
    except ValueError:
        return f"{CERTIFICATE} is not a certificate in PEM"
    try:
        private = serialization.load_pem_private_key(key.strip().encode(), password=None)
    except (TypeError, ValueError):
        return f"{KEY} is not a private key in PEM without a passphrase"
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        return f"{KEY} is not the key of {CERTIFICATE}"
    if leaf.not_valid_after_utc <= now:
        return f"{CERTIFICATE} ended on {leaf.not_valid_after_utc:%Y-%m-%d}"
    if outside := [name for name in names if not _good_for(leaf, name)]:
        return f"{CERTIFICATE} is not good for {', '.join(outside)}"
    return None


def _good_for(leaf: x509.Certificate, name: str) -> bool:
    """As clients judge: by the alternative names, where `*.` stands for one label."""
    try:
        listed = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    known = {text.lower() for text in listed.get_values_for_type(x509.DNSName)}
    return name in known or f"*.{name.partition('.')[2]}" in known
