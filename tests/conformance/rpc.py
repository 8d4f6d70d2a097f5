"""gRPC with the messages of the protocol: one call, its status code, its answer.

The message classes are those that `tritonclient` generated from the protocol's own definition; none of its client code
is used.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.conformance.case import Difference, NoAnswer, expect
from tests.conformance.inference import Answer, Tensor
from tests.conformance.wire import CONTENTS, DATATYPES, Array, from_binary, strings, to_binary

CLIENT_CODES = (
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "RESOURCE_EXHAUSTED",
)
"""Codes that say the request was at fault. The protocol leaves the code open; UNKNOWN, INTERNAL, UNAVAILABLE and
DATA_LOSS blame the server."""

Proto = Any
"""A protobuf message: the generated classes carry no annotations."""


class Result(NamedTuple):
    """The end of a call: `response` is None unless `code` is OK."""

    code: str
    message: str
    response: Proto

    def __str__(self) -> str:
        return f"{self.code} {self.message[:160]!r}"


class Rpc:
    """A server's gRPC address, the metadata (keys) that every call needs, and a limit in seconds."""

    def __init__(self, target: str, headers: Mapping[str, str], timeout: float = 10.0) -> None:
        limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.channel = grpc.insecure_channel(target, limits)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.metadata = tuple((name.lower(), value) for name, value in headers.items())
        self.timeout = timeout

    def call(self, method: str, request: Proto) -> Result:
        """One unary call."""
        send = getattr(self.stub, method)
        return self.finish(lambda: send(request, timeout=self.timeout, metadata=self.metadata))

    def finish(self, send: Callable[[], Proto]) -> Result:
        """Run a call to its end."""
        try:
            return Result("OK", "", send())
        except grpc.RpcError as error:
            return ended(error, self.timeout)

    def stream(self, requests: Iterable[Proto]) -> tuple[list[Proto], Result]:
        """All responses of one `ModelStreamInfer` call, and how it ended."""
        responses: list[Proto] = []
        try:
            responses.extend(self.stub.ModelStreamInfer(iter(requests), timeout=self.timeout, metadata=self.metadata))
        except grpc.RpcError as error:
            return responses, ended(error, self.timeout)
        return responses, Result("OK", "", None)

    def infer(
        self, model: str, inputs: Sequence[Tensor], values: Mapping[str, Array], outputs: Sequence[str] = ()
    ) -> Answer:
        """An inference with raw contents that must succeed; `outputs` are asked for, none: all."""
        request = raw_request(model, inputs, values)
        for name in outputs:
            request.outputs.add(name=name)
        return answer(self.call("ModelInfer", request))

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()


def ended(error: Any, limit: float) -> Result:
    """The status of a failed call; a call that hung raises NoAnswer."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        raise NoAnswer(f"no answer within {limit:.0f} s")
    return Result(error.code().name, error.details() or "", None)


def raw_request(model: str, inputs: Sequence[Tensor], values: Mapping[str, Array]) -> Proto:
    """A `ModelInferRequest` with `raw_input_contents`."""
    request = service_pb2.ModelInferRequest(model_name=model)
    for tensor in inputs:
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=values[tensor.name].shape)
        request.raw_input_contents.append(to_binary(values[tensor.name]))
    return request


def typed_request(model: str, inputs: Sequence[Tensor], values: Mapping[str, Array]) -> Proto:
    """A `ModelInferRequest` with typed `contents`; KeyError where the datatype has none (FP16)."""
    request = service_pb2.ModelInferRequest(model_name=model)
    for tensor in inputs:
        entry = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=values[tensor.name].shape)
        getattr(entry.contents, CONTENTS[tensor.datatype]).extend(values[tensor.name].ravel().tolist())
    return request


def answer(result: Result) -> Answer:
    """The tensors of a successful call, raw or typed."""
    expect(result.code == "OK", f"expected OK, got {result}")
    return tensors(result.response)


def tensors(response: Proto) -> Answer:
    """The tensors of a `ModelInferResponse`; raises Difference where contents do not fit shape and datatype."""
    raw = list(response.raw_output_contents)
    expect(not raw or len(raw) == len(response.outputs), f"{len(raw)} raw contents for {len(response.outputs)} outputs")
    found = {}
    for position, output in enumerate(response.outputs):
        expect(output.name not in found, f"output {output.name!r} comes twice")
        expect(
            output.datatype in DATATYPES, f"output {output.name!r}: datatype {output.datatype!r} is not in the table"
        )
        try:
            found[output.name] = content(output, raw[position] if raw else None)
        except ValueError as error:
            raise Difference(f"output {output.name!r} of {output.datatype} {list(output.shape)}: {error}") from error
    return Answer(response, found)


def content(output: Proto, raw: bytes | None) -> Array:
    """One output tensor."""
    if raw is not None:
        expect(not output.contents.ByteSize(), f"output {output.name!r} has both raw and typed contents")
        return from_binary(raw, output.datatype, output.shape)
    expect(output.datatype in CONTENTS, f"output {output.name!r}: {output.datatype} must be raw")
    values = list(getattr(output.contents, CONTENTS[output.datatype]))
    if output.datatype == "BYTES":
        return strings(values).reshape(output.shape)
    return np.array(values, DATATYPES[output.datatype]).reshape(output.shape)


def refused(result: Result) -> None:
    """The call failed, and the code says that the request was at fault."""
    expect(result.code != "OK", "expected an error, got OK")
    expect(result.code in CLIENT_CODES, f"expected a code of the client's kind, got {result}")
    expect(result.message, f"{result.code} without a message")
