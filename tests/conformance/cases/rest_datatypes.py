"""Every datatype with its edge values as JSON; elements of the wrong kind; JSON itself, well formed and not.

`The server can decide to coerce each element to the required type or return an error if an unexpected value is
received`: such cases take a value of the right datatype or a refusal, and nothing else.
"""

import json

import numpy as np

from tests.conformance.case import NotApplicable, Suite, expect
from tests.conformance.cases.rest_inference import right, right_or_refused
from tests.conformance.inference import LENGTH, answer, refused
from tests.conformance.rest import Reply
from tests.conformance.specification import DATATYPES as TABLE
from tests.conformance.specification import JSON, TENSOR_DATA
from tests.conformance.subject import Subject
from tests.conformance.wire import (
    DATATYPES,
    FLOATS,
    INTEGERS,
    RAW_BYTES,
    Json,
    edges,
    flat,
    nonfinite,
    pages,
    same,
    strings,
)

suite = Suite()
DEPTHS = (100, 10_000, 1_000_000)


@suite.each(TABLE, "{}: edge values come back from JSON", list(DATATYPES))
def json_edges(subject: Subject, datatype: str) -> None:
    tensor, twin = subject.json_view().echoed(datatype)
    for page in pages(edges(datatype), tensor.shape):
        found = subject.infer(subject.message(**{tensor.name: page})).tensors[twin]
        expect(same(found, page), f"sent {brief(page)}, got {brief(found)}")


def brief(array: np.ndarray) -> str:  # type: ignore[type-arg]  # any element type
    """The first elements, for a message."""
    return str([str(v)[:24] for v in array.ravel()[:12].tolist()])


@suite.each(TABLE, "{}: a whole number without a fraction is a float", FLOATS)
def whole_number(subject: Subject, datatype: str) -> None:
    tensor, twin = subject.json_view().echoed(datatype)
    index = subject.json_view().index(tensor.name)
    count = subject.json_view().values[tensor.name].size
    found = subject.infer(subject.message().changed_input(index, data=[3] * count)).tensors[twin]
    expect(np.all(found == 3), f"sent 3, got {brief(found)}")


@suite.each(TABLE, "{}: a number beyond the range is coerced or refused", INTEGERS)
def beyond_range(subject: Subject, datatype: str) -> None:
    limits = np.iinfo(DATATYPES[datatype])
    for value in (int(limits.max) + 1, int(limits.min) - 1, 10**400):
        element_open(subject, datatype, value)


@suite.each(TABLE, "{}: a number beyond the range is coerced or refused", FLOATS)
def beyond_float(subject: Subject, datatype: str) -> None:
    for value in (10**400, -(10**400)):
        element_open(subject, datatype, value)


WRONG: dict[str, tuple[str, Json]] = {
    "a fraction for an integer": ("iu", 1.5),
    "a float without fraction for an integer": ("iu", 1.0),
    "a string for an integer": ("iu", "1"),
    "a boolean for an integer": ("iu", True),
    "a string for a float": ("f", "1.5"),
    "a boolean for a float": ("f", True),
    "an integer for a boolean": ("b", 1),
    "two for a boolean": ("b", 2),
    "a string for a boolean": ("b", "true"),
    "an integer for BYTES": ("O", 1),
    "a boolean for BYTES": ("O", True),
}


@suite.each(TENSOR_DATA, "{} is coerced or refused", WRONG)
def wrong_element(subject: Subject, wrong: tuple[str, Json]) -> None:
    kinds, value = wrong
    element_open(subject, subject.json_view().of_kind(kinds).datatype, value)


@suite.each(TENSOR_DATA, "{} as an element is refused", {"null": None, "an object": {"a": 1}, "an empty list": []})
def no_element(subject: Subject, value: Json) -> None:
    view = subject.json_view()
    count = view.values[view.inputs[0].name].size
    refused(subject.post(subject.message().changed_input(0, data=[value] * count)))


def element_open(subject: Subject, datatype: str, value: Json) -> None:
    """A tensor of this element: an answer in which every element is of its output's datatype, or a refusal."""
    view = subject.json_view()
    tensor = next((t for t in view.inputs if t.datatype == datatype), None)
    if tensor is None:
        raise NotApplicable(f"no {datatype} input can be sent this way")
    data = [value] * view.values[tensor.name].size
    reply = subject.post(subject.message().changed_input(view.index(tensor.name), data=data))
    if reply.status == 200:
        answer(reply)
    else:
        refused(reply)


def post_text(subject: Subject, body: bytes) -> Reply:
    """Send an inference request whose body is this text."""
    return subject.rest.send("POST", f"{subject.path}/infer", body, {"Content-Type": "application/json"})


def post_replaced(subject: Subject, old: bytes, new: bytes) -> Reply:
    """Send the working request, with the id `MARK`, after a replacement in its text."""
    body = subject.message().changed(id="MARK").body()
    expect(old in body, f"the request has no {old!r}")
    return post_text(subject, body.replace(old, new))


ESCAPES = {
    "an escaped letter": (b'"\\u0041b"', b"Ab"),
    "a surrogate pair": (b'"\\ud83d\\udc8a"', "\U0001f48a".encode()),
    "every short escape": (b'"\\"\\\\\\/\\b\\f\\n\\r\\t"', b'"\\/\b\f\n\r\t'),
    "an escaped null": (b'"a\\u0000b"', b"a\0b"),
    "letters beyond ASCII as they are": ('"\u6f22\U0001f48a"'.encode(), "\u6f22\U0001f48a".encode()),
}


@suite.each(JSON, "{} in a BYTES element means its character", ESCAPES)
def escapes(subject: Subject, escape: tuple[bytes, bytes]) -> None:
    written, meant = escape
    tensor, twin = subject.json_view().echoed("BYTES")
    shape = subject.json_view().values[tensor.name].shape
    value = strings([b"@MARK@"] * int(np.prod(shape))).reshape(shape)
    body = subject.message(**{tensor.name: value}).body().replace(b'"@MARK@"', written)
    found = answer(post_text(subject, body)).tensors[twin]
    expect(set(found.ravel().tolist()) == {meant}, f"sent {written!r}, got {brief(found)}")


@suite.case(JSON, "an escaped member name means its characters")
def escaped_name(subject: Subject) -> None:
    right(subject, post_replaced(subject, b'"shape"', b'"sh\\u0061pe"'))


@suite.each(JSON, "a number may be written {}", {"with an exponent": b"3e0", "with a signed exponent": b"30.0E-1"})
def number_forms(subject: Subject, written: bytes) -> None:
    tensor = subject.json_view().of_kind("f")
    twin = subject.json_view().echoed(tensor.datatype)[1]
    index, count = subject.json_view().index(tensor.name), subject.json_view().values[tensor.name].size
    body = subject.message().changed_input(index, data=["@MARK@"] * count).body().replace(b'"@MARK@"', written)
    found = answer(post_text(subject, body)).tensors[twin]
    expect(np.all(found == 3), f"sent {written!r}, got {brief(found)}")


BROKEN = {
    "an empty body": b"",
    "white space": b" \n",
    "an unfinished object": b'{"inputs": [',
    "an unfinished string": b'{"inputs',
    "no JSON at all": b"\x00\x01\x02\xff",
    "null": b"null",
    "a list": b"[]",
    "a string": b'"inputs"',
    "a number": b"17",
    "an empty object": b"{}",
}


@suite.each(JSON, "{} is refused", BROKEN)
def broken(subject: Subject, body: bytes) -> None:
    refused(post_text(subject, body))


LENIENT = {
    "a comma after the last member": (b'"id": "MARK"}', b'"id": "MARK",}'),
    "a comment": (b'{"inputs"', b'/* comment */ {"inputs"'),
    "single quotes": (b'"MARK"', b"'MARK'"),
    "a member given twice": (b'"id": "MARK"', b'"id": "MARK", "id": "MARK"'),
    "text after the object": (b'"MARK"}', b'"MARK"} x'),
    "a byte order mark": (b'{"inputs"', b'\xef\xbb\xbf{"inputs"'),
    "a line feed within a string": (b"MARK", b"MA\nRK"),
    "a byte that is not UTF-8 within a string": (b"MARK", b"MA\xffRK"),
    "half of a surrogate pair": (b"MARK", b"MA\\ud800RK"),
    "a null character within a string": (b"MARK", b"MA\\u0000RK"),
}


@suite.each(JSON, "{}: read, as RFC 8259 section 9 allows, or refused, and answered in JSON", LENIENT)
def lenient(subject: Subject, change: tuple[bytes, bytes]) -> None:
    right_or_refused(subject, post_replaced(subject, *change))


@suite.each(JSON, "data nested {} deep is answered or refused", DEPTHS)
def deep_data(subject: Subject, depth: int) -> None:
    value = json.dumps(flat(subject.message().document["inputs"][0]["data"]))
    body = subject.message().changed_input(0, data="@MARK@").body()
    deep = "[" * depth + value + "]" * depth
    right_or_refused(subject, post_text(subject, body.replace(b'"@MARK@"', deep.encode())))


@suite.each(JSON, "an unknown member nested {} deep is ignored or refused", DEPTHS)
def deep_member(subject: Subject, depth: int) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    right_or_refused(subject, post_replaced(subject, b'"id": "MARK"', b'"id": "MARK", "no_such_member": ' + deep))


@suite.each(JSON, "parameters nested {} deep are ignored or refused", DEPTHS)
def deep_parameters(subject: Subject, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    right_or_refused(
        subject, post_replaced(subject, b'"id": "MARK"', b'"id": "MARK", "parameters": {"a": ' + deep + b"}")
    )


@suite.each(JSON, "{}: NaN and infinities asked for as JSON are refused, or written as JSON", FLOATS)
def nonfinite_output(subject: Subject, datatype: str) -> None:
    """RFC 8259, section 6: NaN and Infinity are not permitted. The input goes as binary, the output comes as JSON."""
    tensor, twin = subject.binary_view().echoed(datatype)
    for page in pages(nonfinite(datatype), tensor.shape):
        json_or_error(subject, tensor.name, page, twin)


@suite.case(JSON, "BYTES that are not UTF-8 asked for as JSON are refused, or written as JSON")
def bytes_output(subject: Subject) -> None:
    """RFC 8259, section 8.1: JSON text is UTF-8."""
    tensor, twin = subject.binary_view().echoed("BYTES")
    for element in RAW_BYTES:
        json_or_error(subject, tensor.name, pages(strings([element]), tensor.shape)[0], twin)


def json_or_error(subject: Subject, name: str, value: np.ndarray, twin: str) -> None:  # type: ignore[type-arg]  # any
    """Ask for one output as JSON: whatever the status, the body is strict JSON, and an error carries a message."""
    message = subject.binary_message(**{name: value}).changed(outputs=[{"name": twin}])
    reply = subject.post(message)
    expect(LENGTH.lower() not in reply.headers, "binary data, which was not asked for")
    document = reply.json()
    if reply.status != 200:
        expect(isinstance(document.get("error"), str), f"no error object: {reply}")
