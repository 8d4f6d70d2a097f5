"""Tensors on the wire: the datatypes of the protocol, their edge values, and the three ways of writing them.

JSON (REST, section Tensor Data), little-endian binary (the binary tensor data extension, and gRPC raw contents) and the
typed contents of gRPC. Written from the texts alone: no code is shared with any client library under test.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Json = Any
"""Whatever `json.loads` returns."""

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype("O"),
}
"""The table Tensor Data Types: all of them, and nothing else."""

INTEGERS = tuple(name for name, dtype in DATATYPES.items() if dtype.kind in "iu")
FLOATS = ("FP16", "FP32", "FP64")
TEXTS = ("", "a", "caf\u00e9 \u6f22 \U0001f48a", 'quote " backslash \\ slash /', "line\nfeed\ttab", "x" * 70_000)
RAW_BYTES = (b"", b"\x00", bytes(range(256)), b"\xff\xfe", b"caf\xe9", b"y" * 70_000)

CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of `InferTensorContents` per datatype; FP16 has none."""


def edges(datatype: str) -> Array:
    """The finite edge values of a datatype, flat: its limits, zero, one, the smallest step, negative zero."""
    dtype = DATATYPES[datatype]
    if datatype == "BYTES":
        return strings([text.encode() for text in TEXTS])
    if datatype == "BOOL":
        return np.array([True, False, True])
    if datatype in FLOATS:
        info = np.finfo(dtype)
        return np.array([0.0, -0.0, 1.0, -1.5, info.max, info.min, info.tiny, info.smallest_subnormal, info.eps], dtype)
    limits = np.iinfo(dtype)
    return np.array(sorted({limits.min, limits.min + 1, 0, 1, limits.max - 1, limits.max}), dtype)


def nonfinite(datatype: str) -> Array:
    """NaN and both infinities, flat."""
    return np.array([math.nan, math.inf, -math.inf], DATATYPES[datatype])


def strings(values: Sequence[bytes]) -> Array:
    """A flat BYTES tensor."""
    array = np.empty(len(values), object)
    array[:] = list(values)
    return array


def pages(values: Array, shape: Sequence[int]) -> list[Array]:
    """`values` as tensors of `shape`, repeated from the start where a tensor is not full.

    A variable dimension is 1, except that the last one after the first grows until all values fit into one tensor: the
    first may be the batch, which all inputs share.
    """
    sizes = [1 if d < 0 else d for d in shape]
    free = [i for i, d in enumerate(shape) if d < 0 and i > 0]
    if free:
        sizes[free[-1]] = math.ceil(len(values) / math.prod(sizes))
    count = math.prod(sizes)
    return [np.resize(values[start : start + count], sizes) for start in range(0, len(values), count)]


def to_binary(array: Array) -> bytes:
    """Little endian, row major, no padding; a BYTES element is a 4-byte length and its bytes."""
    if array.dtype == object:
        return b"".join(struct.pack("<I", len(item)) + item for item in array.ravel())
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def from_binary(data: bytes, datatype: str, shape: Sequence[int]) -> Array:
    """The inverse of `to_binary`; raises ValueError when the bytes are not exactly this tensor."""
    if datatype != "BYTES":
        return np.frombuffer(data, DATATYPES[datatype]).reshape(shape)
    items, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        items.append(data[at + 4 : end])
        at = end
    if at != len(data):
        raise ValueError(f"BYTES tensor of {len(data)} bytes ends inside an element")
    return strings(items).reshape(shape)


def to_json(array: Array) -> Json:
    """The elements as JSON values in the tensor's own nesting; BYTES must be UTF-8."""
    if array.dtype == object:
        return np.array([item.decode() for item in array.ravel()], object).reshape(array.shape).tolist()
    return array.tolist()


def flat(data: Json) -> list[Json]:
    """The elements of nested or flat tensor data."""
    if not isinstance(data, list):
        return [data]
    return [element for part in data for element in flat(part)]


def from_json(data: Json, datatype: str, shape: Sequence[int]) -> Array:
    """The tensor that JSON data stands for; raises ValueError where a value is not of the datatype."""
    values = flat(data)
    if datatype == "BYTES":
        return strings([str(value).encode() for value in values]).reshape(shape)
    dtype = DATATYPES[datatype]
    array = np.array(values, dtype)
    wrong = [
        v for v, a in zip(values, array.tolist(), strict=True) if isinstance(v, str) or (dtype.kind != "f" and v != a)
    ]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is not a {datatype}")
    return array.reshape(shape)


def same(one: Array, other: Array) -> bool:
    """Equal in shape and value; NaN equals NaN, and negative zero differs from zero only in binary."""
    if one.shape != other.shape or one.dtype.kind != other.dtype.kind:
        return False
    if one.dtype == object:
        return bool(one.ravel().tolist() == other.ravel().tolist())
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
