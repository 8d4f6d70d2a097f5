"""REST inference: the request objects that the cases send and change, and a reader that takes nothing on trust."""

import copy
import json
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.conformance.case import Difference, NotApplicable, expect
from tests.conformance.rest import Reply, strict_json
from tests.conformance.wire import DATATYPES, Array, Json, flat, from_binary, from_json, to_binary, to_json

LENGTH = "Inference-Header-Content-Length"


class Tensor(NamedTuple):
    """Metadata of an input or output; a variable dimension is -1."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Answer(NamedTuple):
    """A successful inference: the response object and its tensors."""

    document: Json
    tensors: dict[str, Array]


class Message(NamedTuple):
    """An inference request: its JSON object, and the binary data after it, one entry per binary input."""

    document: Json
    blobs: tuple[bytes, ...] = ()

    def body(self) -> bytes:
        """Object and binary data as they are sent."""
        return json.dumps(self.document).encode() + b"".join(self.blobs)

    def headers(self) -> dict[str, str]:
        """The headers that belong to the body."""
        if not self.blobs:
            return {"Content-Type": "application/json"}
        length = len(json.dumps(self.document).encode())
        return {"Content-Type": "application/octet-stream", LENGTH: str(length)}

    def changed(self, **members: Json) -> "Message":
        """A copy whose object has other members; None removes one."""
        document = copy.deepcopy(self.document) | members
        return Message({name: value for name, value in document.items() if value is not None}, self.blobs)

    def changed_input(self, index: int, **members: Json) -> "Message":
        """A copy whose input `index` has other members; None removes one."""
        document = copy.deepcopy(self.document)
        entry = document["inputs"][index] | members
        document["inputs"][index] = {name: value for name, value in entry.items() if value is not None}
        return Message(document, self.blobs)


def json_message(inputs: Sequence[Tensor], values: Mapping[str, Array]) -> Message:
    """All inputs as JSON; not applicable where a BYTES element is no text."""
    try:
        return Message({"inputs": [described(i, values[i.name]) | {"data": to_json(values[i.name])} for i in inputs]})
    except UnicodeDecodeError as error:
        raise NotApplicable("the model takes BYTES that JSON cannot carry") from error


def binary_message(inputs: Sequence[Tensor], values: Mapping[str, Array], json_names: Sequence[str] = ()) -> Message:
    """All inputs as binary data, except those named in `json_names`."""
    entries, blobs = [], []
    for tensor in inputs:
        array = values[tensor.name]
        if tensor.name in json_names:
            entries.append(described(tensor, array) | {"data": to_json(array)})
            continue
        blobs.append(to_binary(array))
        entries.append(described(tensor, array) | {"parameters": {"binary_data_size": len(blobs[-1])}})
    return Message({"inputs": entries}, tuple(blobs))


def described(tensor: Tensor, array: Array) -> dict[str, Json]:
    """An input without its data."""
    return {"name": tensor.name, "shape": list(array.shape), "datatype": tensor.datatype}


def answer(reply: Reply) -> Answer:
    """The tensors of a successful inference; raises Difference where status, object or tensors are not as described."""
    expect(reply.status == 200, f"expected 200, got {reply}")
    document, rest = split(reply)
    expect(isinstance(document, dict), f"the response is no JSON object: {reply}")
    tensors = {}
    for output in listed(document, "outputs"):
        name, array, rest = tensor_of(output, rest)
        expect(name not in tensors, f"output {name!r} comes twice")
        tensors[name] = array
    expect(not rest, f"{len(rest)} bytes of binary data belong to no output")
    return Answer(document, tensors)


def split(reply: Reply) -> tuple[Json, bytes]:
    """The JSON object and the binary data after it."""
    if LENGTH.lower() not in reply.headers:
        return reply.json(), b""
    length = int(reply.headers[LENGTH.lower()])
    expect(0 < length <= len(reply.body), f"{LENGTH} is {length} in a body of {len(reply.body)} bytes")
    return strict_json(reply.body[:length]), reply.body[length:]


def listed(document: Json, member: str) -> list[Json]:
    """A member that must be an array of objects."""
    value = document.get(member)
    expect(isinstance(value, list) and all(isinstance(v, dict) for v in value), f"{member!r} is no array of objects")
    return list(value)


def tensor_of(output: Json, rest: bytes) -> tuple[str, Array, bytes]:
    """Name and content of one output, and the binary data that is left for the outputs after it."""
    name, datatype, shape = output.get("name"), output.get("datatype"), output.get("shape")
    expect(isinstance(name, str), f"an output without a name: {str(output)[:160]}")
    expect(datatype in DATATYPES, f"output {name!r}: datatype {datatype!r} is not in the table")
    whole = isinstance(shape, list) and all(type(d) is int and d >= 0 for d in shape)
    expect(whole, f"output {name!r}: shape {shape!r} is no list of unsigned integers")
    size = (output.get("parameters") or {}).get("binary_data_size")
    try:
        if size is None:
            return name, json_tensor(output, datatype, shape), rest
        expect(type(size) is int and 0 <= size <= len(rest), f"output {name!r}: binary_data_size {size!r}")
        return name, from_binary(rest[:size], datatype, shape), rest[size:]
    except ValueError as error:
        raise Difference(f"output {name!r} of {datatype} {shape}: {error}") from error


def json_tensor(output: Json, datatype: str, shape: Sequence[int]) -> Array:
    """An output given as JSON data."""
    expect(isinstance(output.get("data"), list), f"output {output['name']!r} has no data")
    count = len(flat(output["data"]))
    expect(count == math.prod(shape), f"output {output['name']!r}: {count} elements for shape {shape}")
    return from_json(output["data"], datatype, shape)


def refused(reply: Reply) -> None:
    """The request was refused as the protocol says: an error status of the client's kind, and an error object.

    The protocol leaves the status open (`typically 400`); RFC 9110, section 15.5, keeps 4xx for what the client did.
    """
    expect(400 <= reply.status < 500, f"expected a 4xx error, got {reply}")
    document = reply.json()
    said = isinstance(document, dict) and isinstance(document.get("error"), str) and document["error"]
    expect(said, f"expected an object with 'error': got {reply}")
