"""The server under test and what the suite found out about its model before the first case.

Nothing is configured but addresses: inputs, outputs and versions come from the metadata, valid values from trying, and
which outputs echo an input from the answers. So one suite runs on an identity model and on one that wants photos.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from core.errors import UserError
from tests.conformance.case import Difference, NotApplicable, expect
from tests.conformance.inference import Answer, Message, Tensor, answer, binary_message, json_message
from tests.conformance.rest import Reply, Rest
from tests.conformance.rpc import Rpc
from tests.conformance.view import View, find
from tests.conformance.wire import Array, Json


@dataclass
class Subject:
    """A server, one of its models, and the requests that this model answers."""

    rest: Rest
    rpc: Rpc | None
    model: str
    extensions: frozenset[str]
    versions: tuple[str, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch: int | None
    """From the model configuration extension; None where that is not offered, 0 where the model has no batch."""
    json: View | None = None
    binary: View | None = None
    raw: View | None = None
    """For raw contents of gRPC."""
    reasons: tuple[str, str, str] = ("", "", "")
    """Why a view is missing: JSON, binary, gRPC."""

    @property
    def path(self) -> str:
        """The model's path."""
        return f"/v2/models/{quote(self.model, safe='')}"

    def json_view(self) -> View:
        """Inputs as JSON; not applicable where the model takes BYTES, which may be no text."""
        takes_bytes = any(tensor.datatype == "BYTES" for tensor in self.inputs)
        return present(self.json, f"no JSON request is answered: {self.reasons[0]}", must=not takes_bytes)

    def binary_view(self) -> View:
        """Inputs as binary data; not applicable where the server does not announce them."""
        told = "binary_tensor_data" in self.extensions
        return present(self.binary, f"no request with binary tensors is answered: {self.reasons[1]}", must=told)

    def raw_view(self) -> View:
        """Inputs as raw contents of gRPC."""
        self.grpc()
        return present(self.raw, f"no gRPC request is answered: {self.reasons[2]}", must=True)

    def message(self, **values: Array) -> Message:
        """A valid JSON request, with other values for some inputs."""
        view = self.json_view()
        return json_message(view.inputs, view.values | values)

    def binary_message(self, **values: Array) -> Message:
        """A valid request with binary inputs and, as the client did not ask otherwise, JSON outputs."""
        view = self.binary_view()
        return binary_message(view.inputs, view.values | values)

    def post(self, message: Message, headers: Mapping[str, str] | None = None, path: str = "") -> Reply:
        """Send an inference request."""
        sent = message.headers() | dict(headers or {})
        return self.rest.send("POST", path or f"{self.path}/infer", message.body(), sent)

    def infer(self, message: Message) -> Answer:
        """Send an inference request that must succeed."""
        return answer(self.post(message))

    def version(self) -> str:
        """A version that can be asked for."""
        if not self.versions:
            raise NotApplicable("the model's metadata names no version")
        return self.versions[-1]

    def grpc(self) -> Rpc:
        """The gRPC side."""
        if self.rpc is None:
            raise NotApplicable("no gRPC address was given")
        return self.rpc

    def alive(self) -> bool:
        """The server still answers a request that it answered before."""
        try:
            if self.json is not None:
                self.infer(self.message())
            elif self.binary is not None:
                self.infer(all_binary(self.binary_message()))
        except (Difference, OSError):
            return False
        return True


def present(view: View | None, reason: str, must: bool) -> View:
    """The view, or why there is none: a difference where the server must have it."""
    if view is None and must:
        raise Difference(reason)
    if view is None:
        raise NotApplicable(reason)
    return view


def all_binary(message: Message) -> Message:
    """The same request with all outputs as binary data."""
    return message.changed(parameters={"binary_data_output": True})


def only(message: Message, outputs: Sequence[str]) -> Message:
    """The same request for these outputs alone, as binary data where that works; none: for all."""
    named = [{"name": name, "parameters": {"binary_data": bool(message.blobs)}} for name in outputs]
    return message.changed(outputs=named) if named else message


def read_tensors(document: Json, member: str) -> tuple[Tensor, ...]:
    """Inputs or outputs of the model metadata."""
    return tuple(
        Tensor(t["name"], t["datatype"], tuple(int(d) for d in t["shape"])) for t in document.get(member) or []
    )


def discover(rest: Rest, rpc: Rpc | None, model: str) -> Subject:
    """A subject that answers in one way at least; raises UserError where the model cannot be tested at all."""
    try:
        subject = described(rest, rpc, model)
    except (Difference, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"model {model!r} at {rest.host}:{rest.port} cannot be tested: {error}") from error

    def ask_json(inputs: Sequence[Tensor], values: Mapping[str, Array], outputs: Sequence[str]) -> Answer:
        return subject.infer(only(json_message(inputs, values), outputs))

    def ask_binary(inputs: Sequence[Tensor], values: Mapping[str, Array], outputs: Sequence[str]) -> Answer:
        return subject.infer(only(all_binary(binary_message(inputs, values)), outputs))

    def ask_grpc(inputs: Sequence[Tensor], values: Mapping[str, Array], outputs: Sequence[str]) -> Answer:
        return subject.grpc().infer(model, inputs, values, outputs)

    found = [find(subject.inputs, ask) for ask in (ask_json, ask_binary, ask_grpc)]
    (subject.json, a), (subject.binary, b), (subject.raw, c) = found
    subject.reasons = (a, b, c)
    if not any(view for view, _ in found):
        raise UserError(f"model {model!r} answers none of the requests tried; the last answer: {a}; {b}; {c}")
    return subject


def described(rest: Rest, rpc: Rpc | None, model: str) -> Subject:
    """A subject from the metadata alone."""
    path = f"/v2/models/{quote(model, safe='')}"
    server, document = rest.get("/v2"), rest.get(path)
    expect(document.status == 200, f"GET {path} answers {document}")
    metadata = document.json()
    extensions = frozenset(server.json().get("extensions") or ()) if server.status == 200 else frozenset()
    versions = tuple(metadata.get("versions") or ())
    inputs, outputs = read_tensors(metadata, "inputs"), read_tensors(metadata, "outputs")
    return Subject(rest, rpc, model, extensions, versions, inputs, outputs, batch_limit(rest, path))


def batch_limit(rest: Rest, path: str) -> int | None:
    """`max_batch_size` of the model configuration extension."""
    reply = rest.get(f"{path}/config")
    return reply.json().get("max_batch_size", 0) if reply.status == 200 else None
