"""What every plugin process does: serve one method table over gRPC, tell the engine the port, and never outlive it."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import grpc

SERVICE, ENGINE = "pulumirpc.ResourceProvider", "pulumirpc.Engine"
LARGEST_MESSAGE = 400 * 1024 * 1024
OPTIONS = [("grpc.max_receive_message_length", LARGEST_MESSAGE), ("grpc.max_send_message_length", LARGEST_MESSAGE)]

Metadata = Sequence[tuple[str, str | bytes]]
Method = Callable[[bytes, Metadata], bytes]
Find = Callable[[str], Method | None]


class Refusal(Exception):
    """A call that ends with a gRPC status; `details` are trailing metadata such as `grpc-status-details-bin`."""

    def __init__(self, code: grpc.StatusCode, message: str, details: Metadata = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class _Table(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Looks a method up by its last name; what is not in the table is UNIMPLEMENTED, which the engine copes with."""

    def __init__(self, tables: Mapping[str, Find]) -> None:
        self.tables = tables

    def service(self, call: Any) -> Any:
        """Grpc's hook: the handler of one call, or None."""
        _, service, name = call.method.split("/")
        method = self.tables[service](name) if service in self.tables else None
        return None if method is None else grpc.unary_unary_rpc_method_handler(answering(method))


def answering(method: Method) -> Callable[[bytes, Any], bytes]:
    """A grpc handler around `method`: a Refusal becomes its status, anything else an INTERNAL error with its text."""

    def handle(request: bytes, context: Any) -> bytes:
        try:
            return method(request, forwardable(context.invocation_metadata()))
        except Refusal as refusal:
            context.set_trailing_metadata(tuple(refusal.details))
            context.abort(refusal.code, refusal.message)
        except Exception as error:  # noqa: BLE001 - a plugin that dies takes the whole update with it: answer instead
            context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        raise AssertionError("abort does not return")

    return handle


def forwardable(metadata: Metadata) -> Metadata:
    """The metadata of a call that may travel on to another server."""
    own = ("user-agent", "grpc-", "te", "content-type")
    return [(key, value) for key, value in metadata if not key.startswith(own)]


def serve(
    tables: Mapping[str, Find],
    stop: Callable[[], None],
    reserved: socket.socket | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve method tables by service name until the engine goes away; call `stop` at the end.

    Printing the port is how the engine finds us: it is printed when `ready` has returned. `reserved` is a socket that
    holds the port to serve on.
    """
    server = grpc.server(futures.ThreadPoolExecutor(64), options=OPTIONS)
    server.add_generic_rpc_handlers((_Table(tables),))
    port = server.add_insecure_port(f"127.0.0.1:{reserved.getsockname()[1] if reserved else 0}")
    server.start()
    ready()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ending.set())
    watch_parent(ending)
    ending.wait()
    stop()
    os._exit(0)


def watch_parent(ending: threading.Event) -> None:
    """Set `ending` when the process that started us is gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and not ending.wait(1.0):
            pass
        ending.set()

    threading.Thread(target=watch, daemon=True).start()


def engine_address(arguments: Sequence[str]) -> str:
    """The engine's own gRPC address: the first argument that is not an option; empty when started by hand."""
    return next((argument for argument in arguments if not argument.startswith("-")), "")
