"""A request that the model answers, and what it answers: found by trying, once for JSON and once for raw bytes.

The two can differ: JSON cannot carry an image, and servers may refuse FP16 in JSON, as the protocol lets them.
"""

import itertools
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tests.conformance.case import Difference, NotApplicable, expect
from tests.conformance.inference import Answer, Tensor
from tests.conformance.wire import DATATYPES, Array, same, strings

TEXT = b"conformance"
RTOL, ATOL = 1e-5, 1e-6
SIDES = (1, 32)
"""Sizes tried for a variable dimension after the first."""

Values = dict[str, Array]
Ask = Callable[[Sequence[Tensor], Mapping[str, Array], Sequence[str]], Answer]
"""Sends inputs, asks for these outputs (none: all), returns the answer; raises Difference, or NotApplicable where it
cannot send them."""


@dataclass(frozen=True)
class View:
    """Inputs that are sent together, a valid value for each, and what the model makes of them."""

    inputs: tuple[Tensor, ...]
    values: Values
    expected: Values
    """The answer, without the outputs that change from call to call."""
    echo: dict[str, str]
    """Input name to the name of the output that gives it back."""

    def check(self, found: Mapping[str, Array]) -> None:
        """The tensors are those of the expected answer, as far as they are in both; at least one is, if any can be."""
        common = self.expected.keys() & found.keys()
        expect(common or not self.expected, f"none of the outputs {sorted(self.expected)} in the answer")
        for name in sorted(common):
            expect(close(found[name], self.expected[name]), f"output {name!r} differs from an earlier equal request")

    def index(self, name: str) -> int:
        """The position of an input in the requests."""
        return [tensor.name for tensor in self.inputs].index(name)

    def echoed(self, datatype: str) -> tuple[Tensor, str]:
        """An input of this datatype and the output that gives it back."""
        offered = [tensor for tensor in self.inputs if tensor.datatype == datatype]
        if not offered:
            raise NotApplicable(f"no {datatype} input can be sent this way")
        for tensor in offered:
            if tensor.name in self.echo:
                return tensor, self.echo[tensor.name]
        raise NotApplicable(f"no output gives the {datatype} input back")

    def of_kind(self, kinds: str) -> Tensor:
        """An input whose numpy kind (`b` `u` `i` `f` `O`) is one of `kinds`."""
        for tensor in self.inputs:
            if DATATYPES[tensor.datatype].kind in kinds:
                return tensor
        raise NotApplicable(f"no {' or '.join(KINDS[k] for k in kinds)} input can be sent this way")


KINDS = {"b": "boolean", "u": "unsigned", "i": "integer", "f": "float", "O": "BYTES"}


def close(one: Array, other: Array) -> bool:
    """Equal, floats within 1e-5."""
    if one.dtype.kind != "f" or one.shape != other.shape:
        return same(one, other)
    return bool(np.allclose(one, other, RTOL, ATOL, equal_nan=True))


def overflowing(inputs: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
    """One of the inputs and a shape for it whose bytes are a multiple of 2 to the power of 64: nothing, in 64 bits."""
    for tensor in sorted(inputs, key=lambda t: -t.shape.count(-1)):
        free = [i for i, d in enumerate(tensor.shape) if d < 0 and (i > 0 or len(tensor.shape) == 1)]
        unit = DATATYPES[tensor.datatype].itemsize * math.prod(max(d, 1) for d in tensor.shape)
        missing = 64 - ((unit & -unit).bit_length() - 1)  # powers of two that the free dimensions must bring
        sizes = [1] * (len(free) - 2) + [2 ** (missing // 2), 2 ** (missing - missing // 2)]
        sizes = sizes if len(free) > 1 else [2**missing]
        if free and max(sizes) < 2**63 and tensor.datatype != "BYTES":
            chosen = dict(zip(free, sizes, strict=True))
            return tensor, [chosen.get(i, max(d, 1)) for i, d in enumerate(tensor.shape)]
    raise NotApplicable("no input has a variable dimension that can overflow")


def find(inputs: Sequence[Tensor], ask: Ask) -> tuple[View | None, str]:
    """A view, or None and why the first request, that with all inputs, was not answered.

    Preferred is the request for which most outputs can also be asked for alone: a model may answer one that it cannot
    use, and say so in an output; and JSON may be unable to carry one of the outputs.
    """
    refusals, best, most = [], None, -1
    for chosen, values in attempts(inputs):
        try:
            first = ask(chosen, values, ()).tensors
            view = learn(chosen, values, first, ask(chosen, values, ()).tensors)
        except (Difference, NotApplicable) as reason:
            refusals.append(str(reason))
            continue
        alone = sum(answers(ask, chosen, values, name) for name in first)
        if alone > most:
            best, most = view, alone
        if alone == len(first):
            break
    return best, "" if best else (refusals or ["the model has no inputs"])[0]


def answers(ask: Ask, inputs: Sequence[Tensor], values: Values, output: str) -> bool:
    """The output can be asked for alone."""
    try:
        ask(inputs, values, (output,))
    except (Difference, NotApplicable):
        return False
    return True


def attempts(inputs: Sequence[Tensor]) -> Iterator[tuple[tuple[Tensor, ...], Values]]:
    """What to try: all inputs, all but FP16, each alone; BYTES as text, then as an image; small, then larger."""
    without = tuple(tensor for tensor in inputs if tensor.datatype != "FP16")
    choices = dict.fromkeys([tuple(inputs), without, *((tensor,) for tensor in inputs)])
    for chosen, element, side in itertools.product(filter(None, choices), (TEXT, picture()), SIDES):
        yield chosen, {t.name: start_value(t, i, side, element) for i, t in enumerate(chosen)}


def start_value(tensor: Tensor, seed: int, side: int, element: bytes) -> Array:
    """A value that differs from those of the other inputs; a variable first dimension is 1."""
    sizes = [d if d >= 0 else (side if i else 1) for i, d in enumerate(tensor.shape)]
    count = math.prod(sizes)
    if tensor.datatype == "BYTES":
        return strings([element] * count).reshape(sizes)
    if tensor.datatype == "BOOL":
        return np.ones(sizes, bool)
    return ((np.arange(count) + 7 * seed) % 100 + 1).astype(DATATYPES[tensor.datatype]).reshape(sizes)


def learn(inputs: tuple[Tensor, ...], values: Values, first: Values, second: Values) -> View:
    """A view from two answers to the same request: which outputs are stable, and which give an input back."""
    stable = {name: array for name, array in first.items() if name in second and close(array, second[name])}
    echo = {}
    for tensor in inputs:
        twins = [name for name, array in stable.items() if same(array, values[tensor.name])]
        if twins:
            echo[tensor.name] = twins[0]
    return View(inputs, values, stable, echo)


def picture(side: int = 32) -> bytes:
    """A grey PNG with a gradient, `side` by `side` pixels."""
    rows = b"".join(b"\0" + bytes((x * 8 + y) % 256 for x in range(side)) for y in range(side))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
