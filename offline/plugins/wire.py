"""What every plugin process does: serve one method table over gRPC, tell the engine the port, and never outlive it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

import grpc

SERVICE = "pulumirpc.ResourceProvider"
LARGEST_MESSAGE = 400 * 1024 * 1024
OPTIONS = [("grpc.max_receive_message_length", LARGEST_MESSAGE), ("grpc.max_send_message_length", LARGEST_MESSAGE)]

Metadata = Sequence[tuple[str, str | bytes]]
Method = Callable[[bytes, Metadata], bytes]


class Refusal(Exception):
    """A call that ends with a gRPC status; `details` are trailing metadata such as `grpc-status-details-bin`."""

    def __init__(self, code: grpc.StatusCode, message: str, details: Metadata = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


class _Table(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
    """Looks a method up by its last name; what is not in the table is UNIMPLEMENTED, which the engine copes with."""

    def __init__(self, find: Callable[[str], Method | None]) -> None:
        self.find = find

    def service(self, call: Any) -> Any:
        """grpc's hook: the handler of one call, or None."""
        method = self.find(call.method.rsplit("/", 1)[-1])
        return None if method is None else grpc.unary_unary_rpc_method_handler(answering(method))


def answering(method: Method) -> Callable[[bytes, Any], bytes]:
    """A grpc handler around `method`: a Refusal becomes its status, anything else an INTERNAL error with its text."""

    def handle(request: bytes, context: Any) -> bytes:
        try:
            return method(request, forwardable(context.invocation_metadata()))
        except Refusal as refusal:
            context.set_trailing_metadata(tuple(refusal.details))
            context.abort(refusal.code, refusal.message)
        except Exception as error:  # a plugin that dies takes the whole update with it: answer instead
            context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        raise AssertionError("abort does not return")

    return handle


def forwardable(metadata: Metadata) -> Metadata:
    """The metadata of a call that may travel on to another server."""
    own = ("user-agent", "grpc-", "te", "content-type")
    return [(key, value) for key, value in metadata if not key.startswith(own)]


def serve(find: Callable[[str], Method | None], stop: Callable[[], None]) -> None:
    """Serve until the engine goes away; print the port, which is how the engine finds us. Calls `stop` at the end."""
    server = grpc.server(futures.ThreadPoolExecutor(64), options=OPTIONS)
    server.add_generic_rpc_handlers((_Table(find),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    ending = threading.Event()
    # The engine gives each plugin a process group of its own, so a Ctrl-C of the terminal does not arrive here.
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


def find_in(table: Mapping[str, Method]) -> Callable[[str], Method | None]:
    """The look-up of a plain method table."""
    return table.get


def complain(message: str) -> None:
    """One line on standard error: the engine shows it beside the resource or in its diagnostics."""
    print(message, file=sys.stderr, flush=True)
