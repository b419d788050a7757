"""A relay between client libraries and the gateway: it keeps what they send, and paces them where they are guests.

It speaks TLS on both sides with certificates checked, and passes bytes on as they come: only `Host` and `Connection`
are others. One request on each connection.
"""

from __future__ import annotations

import contextlib
import re
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.contract.target import PATIENCE, Client

END: Final = b"\r\n\r\n"


@dataclass(frozen=True)
class Sent:
    """One request as a client sent it: `head` to the blank line, `body` out of its chunks."""

    head: bytes
    body: bytes

    @property
    def line(self) -> tuple[str, str]:
        """Method and target."""
        method, target, _version = self.head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        return method, target

    @property
    def headers(self) -> list[tuple[str, str]]:
        """In their order and spelling."""
        lines = self.head.decode("latin-1").rstrip("\r\n").split("\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]


@dataclass
class Relay:
    """A running relay: what clients are given as URL and certificate, and what they sent."""

    url: str
    ca: str
    sent: list[Sent] = field(default_factory=list)

    @property
    def host(self) -> str:
        """As in the Host header that clients send."""
        return self.url.removeprefix("https://")


@contextmanager
def relaying(client: Client, folder: Path) -> Iterator[Relay]:
    """Starts a relay to the gateway of `client`, at its pace. Its certificate is kept in `folder`."""
    file = folder / "relay.pem"
    file.write_bytes(certificate())
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(file)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError), trust.wrap_socket(self.request, server_side=True) as near:
                if (sent := _read(near)) is not None:
                    relay.sent.append(sent)
                    _pass(client, relay, sent, near)

    with _Server(("127.0.0.1", 0), Handler) as server:
        relay = Relay(url=f"https://localhost:{server.server_address[1]}", ca=str(file))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield relay
        finally:
            server.shutdown()
            thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


def _read(near: ssl.SSLSocket) -> Sent | None:
    """One request; None when the client went away."""
    data = b""
    while END not in data:
        if not (piece := near.recv(65536)):
            return None
        data += piece
    head, body = data.split(END, 1)
    head += END
    if re.search(rb"(?im)^expect: *100-continue\r?$", head):
        near.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if re.search(rb"(?im)^transfer-encoding: *chunked\r?$", head):
        while not body.endswith(b"0\r\n\r\n"):
            body += near.recv(65536)
        return Sent(head, _whole(body))
    length = re.search(rb"(?im)^content-length: *(\d+)\r?$", head)
    while length and len(body) < int(length[1]):
        body += near.recv(65536)
    return Sent(head, body)


def _whole(chunks: bytes) -> bytes:
    whole = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        count = int(size, 16)
        whole, chunks = whole + rest[:count], rest[count + 2 :]
        if not count:
            break
    return whole


def _pass(client: Client, relay: Relay, sent: Sent, near: ssl.SSLSocket) -> None:
    head = sent.head.replace(relay.host.encode(), client.host.encode())
    head = re.sub(rb"(?im)^(connection|transfer-encoding|content-length|expect):[^\r]*\r\n", b"", head)
    if sent.body or re.search(rb"(?im)^content-length:", sent.head):
        head = head[:-2] + b"Content-Length: %d\r\n\r\n" % len(sent.body)
    head = head[:-2] + b"Connection: close\r\n\r\n"
    deadline = time.monotonic() + PATIENCE
    while True:
        with client.connected() as far:
            far.sendall(head + sent.body)
            first = far.recv(65536)
            wait = re.search(rb"(?im)^retry-after: *(\d+)\r?$", first) if first[9:12] == b"429" else None
            if client.pace.rate and wait and time.monotonic() + int(wait[1]) < deadline:
                time.sleep(int(wait[1]))
                continue
            while first:
                near.sendall(first)
                first = far.recv(65536)
            with contextlib.suppress(OSError):
                near.unwrap()
            return


def certificate() -> bytes:
    """A key and a certificate for this machine's own names, which is its own authority, for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay of the contract tests")])
    start = datetime.now(UTC) - timedelta(minutes=5)
    names: list[Any] = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret + signed.public_bytes(serialization.Encoding.PEM)
