"""The platform's own certificate authority: it can vouch for this gateway's names and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME: Final = timedelta(days=3650)
LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


def create(title: str, hostnames: tuple[str, ...], address: str) -> tuple[str, str]:
    """(private key, certificate) as PEM: EC P-256, ten years, one level below it, critical name constraints."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title[:64])])
    start = datetime.now(UTC) - timedelta(minutes=5)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.NameConstraints(permitted_subtrees=permitted(hostnames, address), excluded_subtrees=None),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


def permitted(hostnames: tuple[str, ...], address: str) -> list[x509.GeneralName]:
    """The names and addresses that the authority may vouch for."""
    names = dict.fromkeys(name for name in (*hostnames, "localhost") if not is_address(name))
    networks = dict.fromkeys(
        [*LOOPBACK, *(ip_network(text) for text in (*hostnames, address) if is_address(text) and not within(text))]
    )
    return [*(x509.DNSName(name) for name in names), *(x509.IPAddress(network) for network in networks)]


def is_address(text: str) -> bool:
    """Whether a host name is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def within(text: str) -> bool:
    """Whether an address is this machine's own."""
    return any(ip_address(text) in network for network in LOOPBACK)


def uncovered(certificate: str, hostnames: tuple[str, ...]) -> list[str]:
    """Host names that the authority may not vouch for (a permitted name covers what ends in it)."""
    parsed = x509.load_pem_x509_certificate(certificate.encode())
    constraints = parsed.extensions.get_extension_for_class(x509.NameConstraints).value
    allowed = list(constraints.permitted_subtrees or [])
    names = [entry.value for entry in allowed if isinstance(entry, x509.DNSName)]
    networks = [ip_network(str(entry.value)) for entry in allowed if isinstance(entry, x509.IPAddress)]

    def covered(host: str) -> bool:
        if is_address(host):
            return any(ip_address(host) in network for network in networks)
        return any(host == name or host.endswith(f".{name}") for name in names)

    return [host for host in hostnames if not covered(host)]


def expires(certificate: str) -> datetime:
    """When the authority ends."""
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc
