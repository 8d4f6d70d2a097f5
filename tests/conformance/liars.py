"""Servers that lie: a case that believes all of them cannot fail, and says nothing.

The parrot answers everything with one friendly object, the refuser refuses everything politely, the broken one answers
500. Each ends a connection after one answer, whatever came in.
"""

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from tests.conformance.wire import Json

Proto = Any
Lie = Callable[[str, grpc.ServicerContext], bytes]
"""The response to a method, serialised; or an abort of the call."""


@contextmanager
def rest_liar(status: int, body: bytes) -> Iterator[str]:
    """The address of a server that gives one answer."""
    head = f"HTTP/1.1 {status} Lie\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    lie = head.encode() + b"Connection: close\r\n\r\n" + body

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            received = self.request.recv(65536)
            while b"\r\n\r\n" not in received and (more := self.request.recv(65536)):
                received += more
            self.request.sendall(lie)
            while self.request.recv(1 << 20):
                pass

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that goes away is none."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Liar(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc carries no annotations
    """Takes any method of any service and any bytes, and lies."""

    def __init__(self, lie: Lie) -> None:
        self.lie = lie

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The handler of one call."""
        method = details.method.rsplit("/", 1)[-1]
        if method == "ModelStreamInfer":
            return grpc.stream_stream_rpc_method_handler(lambda requests, context: iter([self.lie(method, context)]))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.lie(method, context))


@contextmanager
def grpc_liar(lie: Lie) -> Iterator[str]:
    """The address of a gRPC server whose every method returns `lie(method, context)`; streams give it once."""
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, handlers=[Liar(lie)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(0).wait()


def parrot_object(*truths: Json) -> bytes:
    """One object that holds everything that was ever true: metadata, readiness, an answer."""
    merged: dict[str, Json] = {"live": True, "ready": True}
    for truth in truths:
        merged |= truth
    return json.dumps(merged).encode()


def parrot_message(method: str, answers: dict[str, Proto]) -> bytes:
    """The recorded response of a method; of an unknown one, nothing."""
    if method == "ModelStreamInfer":
        return bytes(service_pb2.ModelStreamInferResponse(infer_response=answers["ModelInfer"]).SerializeToString())
    return bytes(answers[method].SerializeToString()) if method in answers else b""
