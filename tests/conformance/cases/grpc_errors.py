"""gRPC: requests that cannot be answered end with a code that blames the request; streaming, where it is offered."""

import math
from collections.abc import Callable

import numpy as np
from tritonclient.grpc import service_pb2

from tests.conformance.case import Difference, NotApplicable, Suite, expect
from tests.conformance.cases.grpc_calls import right, working
from tests.conformance.cases.rest_errors import TWINS
from tests.conformance.cases.rest_metadata import NO_VERSIONS
from tests.conformance.rpc import CLIENT_CODES, Proto, Result, raw_request, refused, tensors, typed_request
from tests.conformance.specification import GRPC_ERRORS, GRPC_STREAM
from tests.conformance.subject import Subject
from tests.conformance.view import overflowing
from tests.conformance.wire import CONTENTS

suite = Suite()


def refuse(subject: Subject, request: Proto) -> None:
    """The request must be refused."""
    refused(subject.grpc().call("ModelInfer", request))


@suite.each(GRPC_ERRORS, "{} is refused", {"an unknown model": "no-such-model", "a model without a name": ""})
def unknown_model(subject: Subject, name: str) -> None:
    request = working(subject)
    request.model_name = name
    refuse(subject, request)


@suite.each(GRPC_ERRORS, "a version that is not listed is refused: {:.20}", [v for v in NO_VERSIONS if "%" not in v])
def unknown_version(subject: Subject, version: str) -> None:
    if subject.version() and version in subject.versions:
        raise NotApplicable(f"{version!r} is a version of this model")
    request = working(subject)
    request.model_version = version
    refuse(subject, request)


@suite.each(GRPC_ERRORS, "an input named {!r} is refused", ("no_such_input", ""))
def unknown_input(subject: Subject, name: str) -> None:
    request = working(subject)
    request.inputs[0].name = name
    refuse(subject, request)


@suite.case(GRPC_ERRORS, "no inputs are refused")
def no_inputs(subject: Subject) -> None:
    subject.raw_view()
    refuse(subject, service_pb2.ModelInferRequest(model_name=subject.model))


@suite.case(GRPC_ERRORS, "a missing input is refused")
def missing_input(subject: Subject) -> None:
    view = subject.raw_view()
    if len(view.inputs) < 2:
        raise NotApplicable("the model has one input")
    result = subject.grpc().call("ModelInfer", raw_request(subject.model, view.inputs[1:], view.values))
    if result.code == "OK":
        raise NotApplicable("the model answers without its first input: it is optional")
    refused(result)


@suite.case(GRPC_ERRORS, "the same input twice is refused")
def duplicate_input(subject: Subject) -> None:
    view = subject.raw_view()
    refuse(subject, raw_request(subject.model, [*view.inputs, view.inputs[0]], view.values))


@suite.case(GRPC_ERRORS, "an unknown output is refused")
def unknown_output(subject: Subject) -> None:
    request = working(subject)
    request.outputs.add(name="no_such_output")
    refuse(subject, request)


@suite.each(GRPC_ERRORS, "{} declared as another datatype of its size is refused", list(TWINS))
def wrong_datatype(subject: Subject, datatype: str) -> None:
    view = subject.raw_view()
    tensor = next((t for t in view.inputs if t.datatype == datatype), None)
    if tensor is None:
        raise NotApplicable(f"no {datatype} input can be sent this way")
    request = working(subject)
    request.inputs[view.index(tensor.name)].datatype = TWINS[datatype]
    refuse(subject, request)


@suite.each(GRPC_ERRORS, "a datatype that is {!r} is refused", ("FLOAT", "fp32", ""))
def unknown_datatype(subject: Subject, datatype: str) -> None:
    request = working(subject)
    request.inputs[0].datatype = datatype
    refuse(subject, request)


SHAPES: dict[str, Callable[[list[int]], list[int]]] = {
    "one dimension more": lambda shape: [1, *shape],
    "one dimension less": lambda shape: shape[1:],
    "none": lambda shape: [],
    "-1": lambda shape: [*shape[:-1], -1],
    "two negative dimensions": lambda shape: [-d for d in shape[:2]] + shape[2:] if len(shape) > 1 else [-1],
    "2 to the power of 62": lambda shape: [*shape[:-1], 2**62],
    "the least integer": lambda shape: [*shape[:-1], -(2**63)],
}


@suite.each(GRPC_ERRORS, "a shape with {} is refused", list(SHAPES))
def wrong_shape(subject: Subject, name: str) -> None:
    request = working(subject)
    shape = SHAPES[name](list(request.inputs[0].shape))
    del request.inputs[0].shape[:]
    request.inputs[0].shape.extend(shape)
    refuse(subject, request)


@suite.case(GRPC_ERRORS, "dimensions whose product overflows 64 bits to nothing, over no bytes, are refused")
def overflow(subject: Subject) -> None:
    view = subject.raw_view()
    tensor, shape = overflowing(subject.inputs)
    others = [t for t in view.inputs if t != tensor] if tensor in view.inputs else []
    request = raw_request(subject.model, [tensor, *others], view.values | {tensor.name: np.zeros(1)})
    del request.inputs[0].shape[:]
    request.inputs[0].shape.extend(shape)
    request.raw_input_contents[0] = b""
    refuse(subject, request)


@suite.each(
    GRPC_ERRORS,
    "raw contents of {} than the shape says are refused",
    {"one byte less": -1, "one byte more": 1, "far more": 999},
)
def wrong_size(subject: Subject, difference: int) -> None:
    request = working(subject)
    blob = request.raw_input_contents[0]
    request.raw_input_contents[0] = blob[:difference] if difference < 0 else blob + b"\0" * difference
    refuse(subject, request)


@suite.each(GRPC_ERRORS, "{} raw contents than inputs are refused", {"fewer": -1, "more": 1})
def wrong_number(subject: Subject, difference: int) -> None:
    request = working(subject)
    if difference < 0:
        del request.raw_input_contents[-1]
    else:
        request.raw_input_contents.append(b"\0")
    refuse(subject, request)


@suite.case(GRPC_ERRORS, "typed contents beside raw contents are refused")
def both_contents(subject: Subject) -> None:
    request = working(subject)
    request.inputs[0].contents.int_contents.append(1)
    refuse(subject, request)


@suite.case(GRPC_ERRORS, "typed contents of another datatype are refused")
def other_contents(subject: Subject) -> None:
    view = subject.raw_view()
    tensor = next((t for t in view.inputs if t.datatype in ("FP32", "FP64")), None)
    if tensor is None:
        raise NotApplicable("no FP32 or FP64 input can be sent this way")
    request = typed_request(subject.model, [t for t in view.inputs if t.datatype in CONTENTS], view.values)
    entry = next(i for i in request.inputs if i.name == tensor.name)
    entry.ClearField("contents")
    entry.contents.bool_contents.extend([True] * math.prod(entry.shape))
    refuse(subject, request)


ELEMENTS = {
    "a length beyond its end": b"\x05\0\0\0abc",
    "the largest length": b"\xff\xff\xff\xffabc",
    "no length": b"\x01\0",
}


@suite.each(GRPC_ERRORS, "BYTES with {} are refused", ELEMENTS)
def wrong_bytes(subject: Subject, blob: bytes) -> None:
    view = subject.raw_view()
    request = working(subject)
    request.raw_input_contents[view.index(view.of_kind("O").name)] = blob
    refuse(subject, request)


@suite.case(GRPC_ERRORS, "more rows than the model takes are refused")
def batch_too_large(subject: Subject) -> None:
    view = subject.raw_view()
    if not subject.max_batch:
        raise NotApplicable("the server does not say how many rows the model takes")
    many = {name: np.concatenate([value] * (subject.max_batch + 1)) for name, value in view.values.items()}
    refuse(subject, raw_request(subject.model, view.inputs, many))


@suite.case(GRPC_ERRORS, "a message that is no protobuf is refused")
def no_protobuf(subject: Subject) -> None:
    rpc = subject.grpc()
    send = rpc.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    result = rpc.finish(lambda: send(b"\xff\xff\xff\xff", timeout=rpc.timeout, metadata=rpc.metadata))
    expect(result.code in (*CLIENT_CODES, "INTERNAL"), f"expected an error of gRPC (INTERNAL is its own), got {result}")


@suite.case(GRPC_ERRORS, "an unknown method is UNIMPLEMENTED")
def unknown_method(subject: Subject) -> None:
    rpc = subject.grpc()
    send = rpc.channel.unary_unary("/inference.GRPCInferenceService/NoSuchMethod")
    result = rpc.finish(lambda: send(b"", timeout=rpc.timeout, metadata=rpc.metadata))
    expect(result.code == "UNIMPLEMENTED", f"got {result}")


@suite.case(GRPC_ERRORS, "after all this the same request has the same answer")
def unharmed(subject: Subject) -> None:
    right(subject, working(subject))


def stream(subject: Subject, *requests: Proto) -> tuple[list[Proto], Result]:
    """The responses of a stream and its end; not applicable where the server has no streaming, or another one."""
    subject.raw_view()
    responses, end = subject.grpc().stream(requests)
    if end.code == "UNIMPLEMENTED" and not responses:
        raise NotApplicable("the server answers UNIMPLEMENTED: streaming is not offered")
    if "deserializing response" in end.message:
        raise NotApplicable("the server streams another message than ModelStreamInferResponse; no text describes it")
    return responses, end


def ended_well(ended: tuple[list[Proto], Result]) -> list[Proto]:
    """The responses of a stream that ends with OK."""
    responses, end = ended
    expect(end.code == "OK", f"the stream ended with {end}")
    return responses


@suite.case(GRPC_STREAM, "three requests on one stream are answered, each with its id")
def stream_answers(subject: Subject) -> None:
    requests = [working(subject) for _ in range(3)]
    for number, request in enumerate(requests):
        request.id = f"stream-{number}"
    responses = ended_well(stream(subject, *requests))
    found = sorted(r.infer_response.id for r in responses)
    expect(found == ["stream-0", "stream-1", "stream-2"], f"ids {found}")
    for response in responses:
        expect(not response.error_message, f"error {response.error_message!r}")
        subject.raw_view().check(tensors(response.infer_response).tensors)


@suite.case(GRPC_STREAM, "a stream without requests ends well")
def stream_empty(subject: Subject) -> None:
    expect(ended_well(stream(subject)) == [], "an answer without a request")


@suite.case(GRPC_STREAM, "a refused request is an error message, and the requests after it are answered")
def stream_error(subject: Subject) -> None:
    bad, good = working(subject), working(subject)
    bad.inputs[0].name, good.id = "no_such_input", "good"
    responses = ended_well(stream(subject, bad, good))
    errors = [r for r in responses if r.error_message]
    answers = [r for r in responses if not r.error_message]
    expect(len(errors) == 1, f"{len(errors)} error messages")
    expect([r.infer_response.id for r in answers] == ["good"], f"{len(answers)} answers")


@suite.case(GRPC_STREAM, "after an unknown model the stream ends or goes on, with an error in either case")
def stream_unknown_model(subject: Subject) -> None:
    bad = working(subject)
    bad.model_name = "no-such-model"
    responses, end = stream(subject, bad)
    if end.code == "OK" and not [r for r in responses if r.error_message]:
        raise Difference(f"no error, {len(responses)} answers")
