"""Certificates that an authority of the tests issues, as somebody's own authority would."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def issued(
    names: Sequence[str], authority: str = "", authority_key: str = "", until: datetime | None = None
) -> tuple[str, str]:
    """(certificate, key) as PEM for these host names, 90 days from now or `until`; signed by itself by default."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "given")])
    issuer = x509.load_pem_x509_certificate(authority.encode()).subject if authority else subject
    signer = serialization.load_pem_private_key(authority_key.encode(), None) if authority_key else key
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    end = until or datetime.now(UTC) + timedelta(days=90)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=365))
        .not_valid_after(end)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode(), pem.decode()
