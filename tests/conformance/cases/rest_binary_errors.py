"""Binary tensors that contradict themselves: sizes, lengths and elements that do not fit."""

import numpy as np

from tests.conformance.case import Difference, NotApplicable, Suite
from tests.conformance.cases.rest_binary import json_able, right
from tests.conformance.inference import LENGTH, Message, binary_message, refused
from tests.conformance.specification import BINARY_ERRORS
from tests.conformance.subject import Subject, all_binary
from tests.conformance.view import overflowing
from tests.conformance.wire import Json

suite = Suite()


def resized(message: Message, blob: bytes, size: Json = "its own") -> Message:
    """The first input with other bytes, and with the size that belongs to them or another."""
    size = len(blob) if size == "its own" else size
    return Message(message.changed_input(0, parameters={"binary_data_size": size}).document, (blob, *message.blobs[1:]))


@suite.each(
    BINARY_ERRORS, "{} than the shape says is refused", {"one byte less": -1, "one byte more": 1, "nothing": -999}
)
def wrong_count(subject: Subject, difference: int) -> None:
    message = subject.binary_message()
    blob = (message.blobs[0] + b"\0")[: max(0, len(message.blobs[0]) + difference)]
    refused(subject.post(resized(message, blob)))


@suite.case(BINARY_ERRORS, "a body shorter than the sizes say is refused")
def short_body(subject: Subject) -> None:
    message = subject.binary_message()
    refused(subject.rest.send("POST", f"{subject.path}/infer", message.body()[:-1], message.headers()))


@suite.case(BINARY_ERRORS, "a body longer than the sizes say is refused")
def long_body(subject: Subject) -> None:
    message = subject.binary_message()
    refused(subject.rest.send("POST", f"{subject.path}/infer", message.body() + b"\0", message.headers()))


@suite.case(BINARY_ERRORS, "dimensions whose product overflows 64 bits to nothing, over no bytes, are refused")
def overflow(subject: Subject) -> None:
    view = subject.binary_view()
    tensor, shape = overflowing(subject.inputs)
    others = [t for t in view.inputs if t != tensor] if tensor in view.inputs else []
    message = binary_message([tensor, *others], view.values | {tensor.name: np.zeros(1)})
    refused(subject.post(resized(message.changed_input(0, shape=shape), b"")))


SIZES: dict[str, Json] = {
    "-1": -1,
    "a string": "4",
    "a fraction": 1.5,
    "2 to the power of 62": 2**62,
    "null": None,
    "true": True,
}


@suite.each(BINARY_ERRORS, "a binary_data_size of {} is refused", SIZES)
def wrong_size(subject: Subject, size: Json) -> None:
    message = subject.binary_message()
    refused(subject.post(resized(message, message.blobs[0], size)))


LENGTHS = {
    "more than the body": "999999999",
    "negative": "-1",
    "no number": "abc",
    "less than the object": "5",
    "a number and letters": "12abc",
    "2 to the power of 64": str(2**64),
    "empty": "",
}


@suite.each(BINARY_ERRORS, "a header length that is {} is refused", LENGTHS)
def wrong_header(subject: Subject, length: str) -> None:
    refused(subject.post(subject.binary_message(), {LENGTH: length}))


@suite.case(BINARY_ERRORS, "binary data without the header is refused")
def no_header(subject: Subject) -> None:
    body = subject.binary_message().body()
    refused(subject.rest.send("POST", f"{subject.path}/infer", body, {"Content-Type": "application/octet-stream"}))


@suite.case(BINARY_ERRORS, "an input with both JSON data and binary data is refused")
def two_contents(subject: Subject) -> None:
    view = json_able(subject)
    data = subject.message().document["inputs"][0]["data"]
    refused(subject.post(binary_message(view.inputs, view.values).changed_input(0, data=data)))


@suite.case(BINARY_ERRORS, "an input with neither JSON data nor a size is refused")
def no_contents(subject: Subject) -> None:
    refused(subject.post(subject.binary_message().changed_input(0, parameters=None)))


ELEMENTS = {
    "a length beyond its end": b"\x05\0\0\0abc",
    "the largest length": b"\xff\xff\xff\xffabc",
    "no room for the length": b"\x01\0",
    "one byte after the last element": b"\x03\0\0\0abc!",
    "two elements for one": b"\x01\0\0\0a\x01\0\0\0b",
}


@suite.each(BINARY_ERRORS, "BYTES with {} are refused", ELEMENTS)
def wrong_bytes(subject: Subject, blob: bytes) -> None:
    view = subject.binary_view()
    tensor = view.of_kind("O")
    if view.values[tensor.name].size != 1:
        raise NotApplicable("the BYTES input takes more than one element")
    others = [t for t in view.inputs if t != tensor]
    refused(subject.post(resized(binary_message([tensor, *others], view.values), blob)))


@suite.case(BINARY_ERRORS, "after all this the same request has the same answer")
def unharmed(subject: Subject) -> None:
    if subject.binary is None:
        raise NotApplicable(f"no request with binary tensors is answered: {subject.reasons[1]}")
    try:
        right(subject, subject.post(all_binary(subject.binary_message())))
    except Difference as difference:
        raise Difference(f"the server was harmed: {difference}") from difference
