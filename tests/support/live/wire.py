"""What goes over a service's network, read beside it: the requests that it really got.

The reader is a one-shot container that shares the service's network and nothing else. It needs no change of the
platform, no root here, and no image that the platform does not have: Open WebUI's has Python.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ops.settings import STACK_LABEL
from tests.support.live.platform import Platform

# Runs in the container: notes the bytes of each connection to a port by their sequence numbers, tells them at the end.
READER: Final = r"""
import json, signal, socket, struct, sys
port, flows = int(sys.argv[1]), {}
packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
class Stop(Exception): pass
def stop(*_): raise Stop
signal.signal(signal.SIGTERM, stop)
print("reading", flush=True)
try:
    while True:
        data, address = packets.recvfrom(1 << 17)
        start = (data[0] & 15) * 4
        if data[9] != 6 or len(data) < start + 20: continue
        source, target, sequence = struct.unpack("!HHI", data[start:start + 8])
        end = struct.unpack("!H", data[2:4])[0] or len(data)
        payload = data[start + (data[start + 12] >> 4) * 4:end]
        if target == port and payload:
            flows.setdefault((data[12:16], source), {})[sequence] = payload
except Stop:
    pass
bodies = [b"".join(parts[key] for key in sorted(parts)) for parts in flows.values()]
print(json.dumps([body.decode("utf-8", "replace") for body in bodies]), flush=True)
"""


class Wire:
    """The bytes that arrived, once reading has ended."""

    def __init__(self) -> None:
        self.streams: list[str] = []

    def requests(self, path: str) -> list[Any]:
        """The JSON bodies of the requests to a path, in no certain order."""
        found = []
        for stream in self.streams:
            # Engines read bodies of a known length: what follows the head is the body, up to the next request's head.
            for piece in stream.split("POST ")[1:]:
                head, _, body = piece.partition("\r\n\r\n")
                if head.startswith(f"{path} "):
                    found.append(json.JSONDecoder().raw_decode(body)[0])
        return found


@contextmanager
def read(platform: Platform, service: str, port: int) -> Iterator[Wire]:
    """Reads what arrives at a service's port while the block runs."""
    name = platform.name(f"wire-{service}")
    command = [
        "docker", "run", "--rm", "--interactive", "--name", name, "--label", f"{STACK_LABEL}={platform.stack}",
        "--network", f"container:{platform.name(service)}", "--user", "0:0",
        "--cap-drop=ALL", "--cap-add=NET_RAW", "--entrypoint", "python3",
        platform.image("open-webui"), "-u", "-c", READER, str(port),
    ]  # fmt: skip
    wire = Wire()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == "reading", f"{name} did not start"
            yield wire
        finally:
            platform.docker.attempt(["kill", "--signal", "TERM", name])
            rest = process.stdout.read()
    wire.streams = json.loads(rest)
