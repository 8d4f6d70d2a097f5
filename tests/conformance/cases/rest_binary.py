"""The binary tensor data extension: a JSON object, then the tensors as bytes."""

from collections.abc import Iterator

import numpy as np

from tests.conformance.case import NotApplicable, Suite, expect
from tests.conformance.inference import LENGTH, answer, binary_message
from tests.conformance.rest import Reply
from tests.conformance.specification import BINARY, BINARY_DATATYPES
from tests.conformance.subject import Subject, all_binary
from tests.conformance.view import View
from tests.conformance.wire import DATATYPES, FLOATS, RAW_BYTES, Array, Json, edges, nonfinite, pages, same, strings

suite = Suite()


def right(subject: Subject, reply: Reply) -> None:
    """The answer is that to the working binary request."""
    subject.binary_view().check(answer(reply).tensors)


@suite.case(BINARY, "is announced as an extension where it works, and works where it is announced")
def announced(subject: Subject) -> None:
    told = "binary_tensor_data" in (subject.rest.get("/v2").json().get("extensions") or ())
    if not told and subject.binary is None:
        raise NotApplicable("the server neither announces nor takes binary tensors")
    expect(told, "the server takes binary tensors and does not announce it")
    expect(subject.binary is not None, f"announced, but refused: {subject.reasons[1]}")
    right(subject, subject.post(all_binary(subject.binary_message())))


@suite.case(BINARY, "binary inputs and outputs, all of them")
def both(subject: Subject) -> None:
    reply = subject.post(all_binary(subject.binary_message()))
    right(subject, reply)
    expect(all(binary_outputs(reply)), "not all outputs are binary")
    sizes = [int(o["parameters"]["binary_data_size"]) for o in answer(reply).document["outputs"]]
    length = int(reply.headers[LENGTH.lower()])
    expect(length + sum(sizes) == len(reply.body), f"{length} + {sizes} bytes in a body of {len(reply.body)}")
    expect(int(reply.headers.get("content-length", len(reply.body))) == len(reply.body), "Content-Length is wrong")


@suite.case(BINARY, "a response with binary data is no application/json")
def content_type(subject: Subject) -> None:
    reply = subject.post(all_binary(subject.binary_message()))
    expect("json" not in reply.headers.get("content-type", ""), f"Content-Type {reply.headers.get('content-type')!r}")


@suite.case(BINARY, "binary inputs, outputs as JSON because nothing else was asked for")
def binary_in(subject: Subject) -> None:
    view = json_able(subject)
    reply = subject.post(binary_message(view.inputs, view.values))
    expect(LENGTH.lower() not in reply.headers, f"{LENGTH} in a response without binary data")
    view.check(answer(reply).tensors)


@suite.case(BINARY, "JSON inputs, binary outputs by binary_data_output")
def binary_out(subject: Subject) -> None:
    json_able(subject)
    reply = subject.post(all_binary(subject.message()))
    expect(LENGTH.lower() in reply.headers, "no binary data in the response")
    subject.json_view().check(answer(reply).tensors)


def json_able(subject: Subject) -> View:
    """The JSON view, where binary tensors work too."""
    subject.binary_view()
    return subject.json_view()


def asked(subject: Subject, *binary: bool | None) -> list[Json]:
    """Requested outputs, of which the first have this `binary_data` (None: not said)."""
    names = sorted(json_able(subject).expected)[: len(binary)]
    if len(names) < len(binary):
        raise NotApplicable(f"the model has {len(names)} outputs")
    pairs = zip(names, binary, strict=True)
    return [{"name": n} if b is None else {"name": n, "parameters": {"binary_data": b}} for n, b in pairs]


def binary_outputs(reply: Reply) -> list[bool]:
    """Which outputs came as binary data, in the order of the response."""
    return ["binary_data_size" in (o.get("parameters") or {}) for o in answer(reply).document["outputs"]]


@suite.case(BINARY, "binary_data asks for one output as binary")
def one_binary(subject: Subject) -> None:
    reply = subject.post(subject.message().changed(outputs=asked(subject, True)))
    expect(binary_outputs(reply) == [True], "the output is not binary")
    subject.json_view().check(answer(reply).tensors)


@suite.case(BINARY, "one output binary, another JSON")
def mixed_outputs(subject: Subject) -> None:
    outputs = asked(subject, False, True, None)
    reply = subject.post(subject.message().changed(outputs=outputs))
    expect(sorted(binary_outputs(reply)) == [False, False, True], "not one of three outputs is binary")
    subject.json_view().check(answer(reply).tensors)


@suite.case(BINARY, "binary_data on an output overrides binary_data_output")
def override(subject: Subject) -> None:
    outputs = asked(subject, False, True)
    reply = subject.post(all_binary(subject.message()).changed(outputs=outputs))
    expect(sorted(binary_outputs(reply)) == [False, True], f"binary are {binary_outputs(reply)}")
    subject.json_view().check(answer(reply).tensors)


@suite.case(BINARY, "binary_data_output holds for outputs asked for by name")
def named_binary(subject: Subject) -> None:
    reply = subject.post(all_binary(subject.message()).changed(outputs=asked(subject, None)))
    expect(binary_outputs(reply) == [True], "the output is not binary")


@suite.case(BINARY, "some inputs binary, some JSON")
def mixed_inputs(subject: Subject) -> None:
    view = json_able(subject)
    if len(view.inputs) < 2:
        raise NotApplicable("the model has one input")
    for parity in (0, 1):
        named = [t.name for i, t in enumerate(view.inputs) if i % 2 == parity]
        view.check(answer(subject.post(binary_message(view.inputs, view.values, named))).tensors)


@suite.case(BINARY, "the binary data follows the order of the inputs in the request")
def input_order(subject: Subject) -> None:
    view = subject.binary_view()
    if len(view.inputs) < 2:
        raise NotApplicable("the model has one input")
    right(subject, subject.post(all_binary(binary_message(view.inputs[::-1], view.values))))


@suite.case(BINARY, "the header's name is case-insensitive")
def header_case(subject: Subject) -> None:
    message = all_binary(subject.binary_message())
    headers = {name.lower(): value for name, value in message.headers().items()}
    right(subject, subject.rest.send("POST", f"{subject.path}/infer", message.body(), headers))


@suite.case(BINARY, "the binary data may start at any address")
def misaligned(subject: Subject) -> None:
    for spaces in range(8):
        message = all_binary(subject.binary_message()).changed(id="x" * (spaces + 1))
        right(subject, subject.post(message))


@suite.case(BINARY, "a request without binary data may still give the header")
def header_without_data(subject: Subject) -> None:
    json_able(subject)
    message = subject.message()
    reply = subject.post(message, {LENGTH: str(len(message.body()))})
    subject.json_view().check(answer(reply).tensors)


@suite.case(BINARY, "the id comes back beside binary data")
def identifier(subject: Subject) -> None:
    found = subject.infer(all_binary(subject.binary_message()).changed(id="r\u00e9ponse-42")).document.get("id")
    expect(found == "r\u00e9ponse-42", f"id {found!r}")


def echoes(subject: Subject, datatype: str, values: Array) -> Iterator[tuple[Array, Array]]:
    """What was sent as binary, and what came back as binary."""
    tensor, twin = subject.binary_view().echoed(datatype)
    for page in pages(values, tensor.shape):
        yield page, subject.infer(all_binary(subject.binary_message(**{tensor.name: page}))).tensors[twin]


def identical(sent: Array, found: Array) -> bool:
    """Equal, and equal in the sign of zero."""
    signs = sent.dtype.kind != "f" or bool(np.array_equal(np.signbit(sent), np.signbit(found)))
    return same(sent, found) and signs


@suite.each(BINARY_DATATYPES, "{}: edge values come back bit for bit", list(DATATYPES))
def binary_edges(subject: Subject, datatype: str) -> None:
    for sent, found in echoes(subject, datatype, edges(datatype)):
        expect(identical(sent, found), f"sent {sent.ravel()[:9]!r:.80}, got {found.ravel()[:9]!r:.80}")


@suite.each(BINARY_DATATYPES, "{}: NaN and the infinities come back", FLOATS)
def binary_nonfinite(subject: Subject, datatype: str) -> None:
    for sent, found in echoes(subject, datatype, nonfinite(datatype)):
        expect(identical(sent, found), f"sent {sent!r}, got {found!r}")


@suite.case(BINARY_DATATYPES, "BYTES: any bytes, empty and long ones, come back")
def any_bytes(subject: Subject) -> None:
    for sent, found in echoes(subject, "BYTES", strings(RAW_BYTES)):
        expect(same(sent, found), "other bytes than were sent")


@suite.case(BINARY_DATATYPES, "BYTES: one element of 8 MiB comes back")
def long_bytes(subject: Subject) -> None:
    for sent, found in echoes(subject, "BYTES", strings([bytes(range(256)) * 32768])):
        expect(same(sent, found), "other bytes than were sent")
