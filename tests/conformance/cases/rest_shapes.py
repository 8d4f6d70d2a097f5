"""Shapes and batches."""

import math
from collections.abc import Sequence

import numpy as np

from tests.conformance.case import NotApplicable, Suite, expect
from tests.conformance.inference import Tensor, answer, refused
from tests.conformance.specification import SHAPES
from tests.conformance.subject import Subject
from tests.conformance.view import View, close, overflowing
from tests.conformance.wire import Array, Json

suite = Suite()


def rows(array: Array, count: int) -> Array:
    """`count` rows, each the first row turned by its number, so that they differ where a row has two values."""
    turned = [np.roll(array[0].ravel(), i).reshape(array[0].shape) for i in range(count)]
    return np.stack(turned) if array.dtype != object else np.array(turned, object).reshape((count, *array.shape[1:]))


def batched(subject: Subject, view: View) -> None:
    """Not applicable unless the first dimension of everything is variable, or the model says that it has no batch."""
    free = [tensor.shape[:1] == (-1,) for tensor in (*view.inputs, *subject.outputs)]
    if not all(free) or subject.max_batch == 0:
        raise NotApplicable("the model has no batch dimension")


def check_batch(view: View, batch: dict[str, Array], found: dict[str, Array], count: int) -> None:
    """Echoes are the rows sent, in their order; an output of `view.expected` has one row per row sent."""
    for name, output in view.echo.items():
        expect(close(found[output], batch[name]), f"rows of {name!r} come back changed or in another order")
    for name in view.expected.keys() & found.keys():
        expect(found[name].shape[:1] == (count,), f"{count} rows sent, output {name!r} has shape {found[name].shape}")


@suite.each(SHAPES, "a batch of {} rows is answered row by row, in order", (1, 2, 5))
def batch(subject: Subject, count: int) -> None:
    view = subject.json_view()
    batched(subject, view)
    if subject.max_batch is not None and count > subject.max_batch:
        raise NotApplicable(f"the model's batches are at most {subject.max_batch}")
    sent = {name: rows(value, count) for name, value in view.values.items()}
    reply = subject.post(subject.message(**sent))
    if reply.status != 200 and subject.max_batch is None and count > 1:
        raise NotApplicable(f"the model refuses {count} rows, and does not say how many it takes: {reply}")
    check_batch(view, sent, answer(reply).tensors, count)


@suite.case(SHAPES, "the same row twice is answered twice the same")
def equal_rows(subject: Subject) -> None:
    view = subject.json_view()
    batched(subject, view)
    sent = {name: np.concatenate([value, value]) for name, value in view.values.items()}
    reply = subject.post(subject.message(**sent))
    if reply.status != 200 and not subject.max_batch:
        raise NotApplicable(f"the model refuses two rows, and does not say how many it takes: {reply}")
    for name, array in answer(reply).tensors.items():
        if name in view.expected:
            expect(close(array[:1], view.expected[name]) and close(array[1:], view.expected[name]), f"{name!r} differs")


@suite.case(SHAPES, "a batch of more rows than the model takes is refused")
def batch_too_large(subject: Subject) -> None:
    view = subject.json_view()
    batched(subject, view)
    if not subject.max_batch:
        raise NotApplicable("the server does not say how many rows the model takes")
    sent = {name: rows(value, (subject.max_batch or 0) + 1) for name, value in view.values.items()}
    refused(subject.post(subject.message(**sent)))


@suite.case(SHAPES, "inputs of one batch that differ in rows are refused")
def uneven_batch(subject: Subject) -> None:
    view = subject.json_view()
    batched(subject, view)
    if not subject.max_batch or len(view.inputs) < 2:
        raise NotApplicable("that the inputs share a batch cannot be known, or there is only one")
    first = view.inputs[0].name
    refused(subject.post(subject.message(**{first: rows(view.values[first], 2)})))


@suite.case(SHAPES, "a tensor without elements is answered or refused")
def no_elements(subject: Subject) -> None:
    view = subject.json_view()
    tensor = next((t for t in view.inputs if -1 in t.shape[1:]), None)
    if tensor is None:
        raise NotApplicable("no input has a variable dimension after the first")
    shape = [0 if d < 0 and i > 0 else max(d, 1) for i, d in enumerate(tensor.shape)]
    reply = subject.post(subject.message().changed_input(view.index(tensor.name), shape=shape, data=[]))
    if reply.status == 200:
        answer(reply)
    else:
        refused(reply)


@suite.case(SHAPES, "a fixed dimension of another size is refused")
def fixed_dimension(subject: Subject) -> None:
    view = subject.json_view()
    tensor = next((t for t in view.inputs if any(d > 0 for d in t.shape[1:])), None)
    if tensor is None:
        raise NotApplicable("no input has a fixed dimension after the first")
    value = view.values[tensor.name]
    refused(subject.post(subject.message(**{tensor.name: np.concatenate([value, value], axis=value.ndim - 1)})))


def first(subject: Subject) -> tuple[Tensor, list[int]]:
    """The first input and the shape that works."""
    tensor = subject.json_view().inputs[0]
    return tensor, list(subject.json_view().values[tensor.name].shape)


def post_shape(subject: Subject, shape: Json, data: Sequence[Json] | None = None) -> None:
    """The working request with another shape for its first input must be refused."""
    members = {"shape": shape} if data is None else {"shape": shape, "data": list(data)}
    message = subject.message()
    message.document["inputs"][0] |= members
    refused(subject.post(message))


@suite.case(SHAPES, "one dimension more than the metadata says is refused")
def rank_more(subject: Subject) -> None:
    post_shape(subject, [1, *first(subject)[1]])


@suite.case(SHAPES, "one dimension less than the metadata says is refused")
def rank_less(subject: Subject) -> None:
    post_shape(subject, first(subject)[1][1:])


@suite.each(SHAPES, "{} elements than the shape says are refused", {"more": 1, "fewer": -1, "far more": 1000})
def element_count(subject: Subject, difference: int) -> None:
    tensor, shape = first(subject)
    element = subject.json_view().values[tensor.name].ravel()[:1].tolist()[0]
    element = element.decode() if isinstance(element, bytes) else element
    post_shape(subject, shape, [element] * (math.prod(shape) + difference))


@suite.case(SHAPES, "a nested row that is too short is refused")
def ragged(subject: Subject) -> None:
    view = subject.json_view()
    tensor = next((t for t in view.inputs if len(t.shape) > 1), None)
    if tensor is None:
        raise NotApplicable("no input has two dimensions")
    element = subject.message().document["inputs"][view.index(tensor.name)]["data"]
    while isinstance(element, list):
        element = element[0]
    shape = [2, 2, *(1 for _ in tensor.shape[2:])]
    message = subject.message().changed_input(
        view.index(tensor.name), shape=shape, data=[[element, element], [element]]
    )
    refused(subject.post(message))


DIMENSIONS: dict[str, Json] = {
    "-1": -1,
    "a fraction": 1.5,
    "a string": "1",
    "null": None,
    "a list": [1],
    "2 to the power of 62": 2**62,
    "2 to the power of 63": 2**63,
    "2 to the power of 64, plus 1": 2**64 + 1,
    "a number of 400 digits": 10**400,
}


@suite.each(SHAPES, "{} as a dimension is refused", DIMENSIONS)
def dimension(subject: Subject, value: Json) -> None:
    shape = first(subject)[1]
    post_shape(subject, [*shape[:-1], value])


@suite.case(SHAPES, "two negative dimensions, whose product is positive, are refused")
def two_negative(subject: Subject) -> None:
    shape = first(subject)[1]
    if len(shape) < 2:
        raise NotApplicable("the first input has one dimension")
    post_shape(subject, [-d if i < 2 else d for i, d in enumerate(shape)])


@suite.case(SHAPES, "dimensions whose product overflows 64 bits to nothing, over no data, are refused")
def overflow(subject: Subject) -> None:
    tensor, shape = overflowing(subject.inputs)
    entry = {"name": tensor.name, "shape": shape, "datatype": tensor.datatype, "data": []}
    others = subject.message().document["inputs"] if tensor in subject.json_view().inputs else []
    inputs = [entry, *(other for other in others if other["name"] != tensor.name)]
    refused(subject.post(subject.message().changed(inputs=inputs)))


NO_SHAPES: dict[str, Json] = {"a number": 1, "a string": "1", "null": None, "an object": {"0": 1}, "an empty list": []}


@suite.each(SHAPES, "{} as a shape is refused", NO_SHAPES)
def no_shape(subject: Subject, shape: Json) -> None:
    post_shape(subject, shape)
