"""The model inside Triton: decode, resize, normalise, network, calibrated probabilities. Copied into every release.

It runs in the server's Python backend, one process with one inference thread for each core, and imports its neighbours
in the release, numpy and openvino; nothing of this project. A bad image fails its own item: the output `error` says
why. A request that does not ask for `error` fails as a whole instead, so that no failure is silent. Sampled answers
leave as events (events.py), and all are counted (counts.py).
"""

import base64
import importlib.util
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

SPLITS = (8, 4, 2, 1)
"""Batches that the network is compiled for; a batch of 7 runs as 4 + 2 + 1 (13 % faster than padding it to 8)."""
OPENVINO = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "ENABLE_CPU_PINNING": False,  # pinned instances would share core 0
    "INFERENCE_PRECISION_HINT": "f32",  # not bf16 where the CPU has it: equal answers on every machine
}
RESULTS = ("logits", "embedding", "activation")
"""Of the network."""
SMALLEST = (
    # a JPEG, a PNG and a WebP of one pixel, base64
    (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAFA3PEY8MlBGQUZaVVBfeMiCeG5uePWvuZHI////////////////////////////////"
        "////////////////////wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAABP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAI"
        "AQEAAD8AE//Z"
    ),
    ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="),
    ("UklGRhoAAABXRUJQVlA4TA4AAAAvAAAAAAcQEf0PRET/Aw=="),
)
"""Decoded before the server is ready: the first image of a kind costs 100 ms otherwise."""
Floats = NDArray[np.float32]
Array = NDArray[Any]


class TritonPythonModel:
    """What Triton's Python backend calls; the names of its methods are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load and warm up; the server is ready when this returned."""
        folder = Path(args["model_repository"]) / args["model_version"]
        spec = json.loads((folder / "model.json").read_bytes())  # bytes: the locale of the server is ASCII
        dims = {output["name"]: output["dims"] for output in json.loads(args["model_config"])["output"]}
        self._facts = Facts(
            labels=np.array([label.encode() for label in spec["labels"]], dtype=object),
            temperature=spec["temperature"],
            abstain_below=spec["abstain_below"],
            top=int(dims["labels"][0]),
            release=os.environ.get("TITRATE_RELEASE", "").encode(),
        )
        self._size: int = spec["image_size"]
        self._outputs = len(dims)
        self._preprocess = neighbour(folder, "preprocess")
        self._explanation = neighbour(folder, "explanation")
        self._network = Network(folder / "network.onnx", self._size)
        release = self._facts.release.decode()
        self._counts = neighbour(folder, "counts").Counts(spec["workload"], release, args["model_version"])
        self._events = self._open_events(folder, spec["workload"], args["model_version"])
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
        pixels = [self._preprocess.decode(base64.b64decode(image), self._size) for image in SMALLEST]
        for batch in SPLITS:
            self._network(self._normalised(pixels[:1] * batch))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One response for each request, in order."""
        began = time.perf_counter()
        images: list[Array] = []
        errors: list[bytes] = []
        ends = [0]
        for request in requests:
            errors.extend(self._read(content, images) for content in contents(request))
            ends.append(len(errors))
        answers = Answers(self._facts, *self._network(self._normalised(images)), errors)
        if drawn := [i for i, request in enumerate(requests) if self._wants_drawing(request)]:
            rows = {row for i in drawn for row in range(ends[i], ends[i + 1])}
            answers.explanation = self._drawings(answers, images, rows)
        responses = [respond(*part, answers) for part in zip(requests, ends[:-1], ends[1:], strict=True)]
        self._events.take(requests, ends, images, answers, began)
        self._counts.add(answers.errors, answers.probability[:, 0], answers.abstain[:, 0], time.perf_counter() - began)
        return responses

    def finalize(self) -> None:
        """The last events and counts leave before the server stops."""
        self._events.close()
        self._counts.close()

    def _open_events(self, folder: Path, workload: str, version: str) -> Any:
        """What posts the events; with the workload's features of an image where the release has them."""
        events = neighbour(folder, "events")
        features = neighbour(folder, "features") if (folder / "features.py").exists() else None
        fixed = {"workload": workload, "release": self._facts.release.decode(), "model_version": version}
        note = partial(self._counts.note, "titrate_events_total")
        return events.Events(events.Settings.of(os.environ), fixed, partial(statistics, features), note)

    def _read(self, content: Any, images: list[Array]) -> bytes:
        """Add one item to `images` as uint8 [s, s, 3] and return b"", or why it cannot be read."""
        try:
            if isinstance(content, bytes):
                images.append(self._preprocess.decode(content, self._size))
            elif 0 in content.shape:
                raise self._preprocess.BadImage("empty", f"pixels of shape {list(content.shape)}")
            else:
                images.append(self._preprocess.resize(content, self._size))
        except self._preprocess.BadImage as error:
            return f"{error.code}: {error}".encode()
        return b""

    def _wants_drawing(self, request: Any) -> bool:
        """Whether it names its outputs, and `explanation` among them: none named looks like all of them named."""
        asked = request.requested_output_names()
        return len(asked) < self._outputs and "explanation" in asked

    def _drawings(self, answers: "Answers", images: list[Array], rows: set[int]) -> Array:
        """PNG for each of `rows`, empty for others and for bad images: objects [n, 1]."""
        good = [row for row, error in enumerate(answers.errors) if not error]
        drawings = answers.explanation.copy()
        for row, image, activation in zip(good, images, answers.activation, strict=True):
            if row in rows:
                drawings[row, 0] = self._explanation.overlay(image, activation)
        return drawings

    def _normalised(self, images: list[Array]) -> Floats:
        """uint8 [s, s, 3] each -> float32 [n, 3, s, s]."""
        if not images:
            return np.empty((0, 3, self._size, self._size), np.float32)
        result: Floats = self._preprocess.normalise(np.stack(images))
        return result


def statistics(features: Any, image: Array) -> dict[str, float]:
    """What the workload's features.py says of uint8 [s, s, 3], by name; nothing where the release has none."""
    if features is None:
        return {}
    return dict(zip(features.FEATURE_NAMES, features.statistics(image).tolist(), strict=True))


def end_with(server: int) -> None:
    """End this process when the server is gone: a killed server leaves its stubs behind."""
    while os.getppid() == server:
        time.sleep(1.0)
    os._exit(1)


def neighbour(folder: Path, name: str) -> Any:
    """The module `<folder>/<name>.py`, whatever else of that name is installed."""
    spec = importlib.util.spec_from_file_location(f"release_{name}", folder / f"{name}.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{name}.py is not in the release")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def contents(request: Any) -> Sequence[Any]:
    """The items of a request, bytes or uint8 [h, w, 3]; none unless exactly one input was given."""
    inputs = request.inputs()
    if len(inputs) != 1:
        return ()
    array: Array = inputs[0].as_numpy()
    return array.ravel() if array.dtype == object else array  # type: ignore[return-value]  # an array is indexable


def respond(request: Any, start: int, end: int, answers: "Answers") -> Any:
    """The response to the request whose items are the rows start to end: only the outputs that it asks for."""
    asked = request.requested_output_names()
    if start == end:
        return failure("give one of the inputs 'image' and 'pixels', with at least one item")
    errors = answers.errors[start:end]
    if "error" not in asked and any(errors):
        return failure(f"{b'; '.join(filter(None, errors)).decode()} (ask for the output 'error' to get the rest)")
    tensors = [pb_utils.Tensor(name, getattr(answers, name)[start:end]) for name in asked]
    return pb_utils.InferenceResponse(tensors)


def failure(reason: str) -> Any:
    """A response that blames the request: HTTP 400, gRPC INVALID_ARGUMENT."""
    return pb_utils.InferenceResponse([], pb_utils.TritonError(reason, pb_utils.TritonError.INVALID_ARG))


class Network:
    """The ONNX network, compiled once for each batch of SPLITS."""

    def __init__(self, path: Path, size: int) -> None:
        core = openvino.Core()
        model = core.read_model(path)
        self._requests: dict[int, Any] = {}
        for batch in SPLITS:
            model.reshape({"images": [batch, 3, size, size]})
            self._requests[batch] = core.compile_model(model, "CPU", OPENVINO).create_infer_request()
        self._empty = [np.empty((0, *list(model.output(name).shape)[1:]), np.float32) for name in RESULTS]

    def __call__(self, images: Floats) -> tuple[Floats, Floats, Floats]:
        """float32 [n, 3, s, s] -> logits [n, classes], embedding [n, d], activation [n, h, w]."""
        parts = [self._empty]
        at = 0
        for batch, request in self._requests.items():
            while len(images) - at >= batch:
                request.set_input_tensor(openvino.Tensor(images[at : at + batch], shared_memory=True))
                request.infer()
                parts.append([request.get_tensor(name).data.copy() for name in RESULTS])
                at += batch
        logits, embedding, activation = (np.concatenate(column) for column in zip(*parts, strict=True))
        return logits, embedding, activation


@dataclass(frozen=True)
class Facts:
    """What every answer of this release shares."""

    labels: Array
    temperature: float
    abstain_below: float
    top: int
    release: bytes


class Answers:
    """The answers to all items of one execution; row i is item i, and zero or empty where that item is bad.

    One attribute for each output of config.pbtxt: an array [n, d], computed when the first request asks for it.
    """

    def __init__(
        self, facts: Facts, logits: Floats, embedding: Floats, activation: Floats, errors: list[bytes]
    ) -> None:
        self._facts = facts
        self._logits = logits
        self._embedding = embedding
        self.activation = activation
        """Of the good items alone."""
        self.errors = errors

    @cached_property
    def label(self) -> Array:
        return self._rows(self._facts.labels[self._best][:, None], b"")

    @cached_property
    def probability(self) -> Array:
        return self._rows(np.take_along_axis(self._calibrated, self._best[:, None], axis=1))

    @cached_property
    def labels(self) -> Array:
        return self._rows(self._facts.labels[self._order], b"")

    @cached_property
    def probabilities(self) -> Array:
        return self._rows(np.take_along_axis(self._calibrated, self._order, axis=1))

    @cached_property
    def abstain(self) -> Array:
        return self.probability < self._facts.abstain_below

    @cached_property
    def embedding(self) -> Array:
        return self._rows(self._embedding)

    @cached_property
    def explanation(self) -> Array:
        """Empty, until model.py draws what was asked for."""
        return np.full((len(self.errors), 1), b"", dtype=object)

    @cached_property
    def release(self) -> Array:
        return np.full((len(self.errors), 1), self._facts.release, dtype=object)

    @cached_property
    def error(self) -> Array:
        return np.array(self.errors, dtype=object)[:, None]

    @cached_property
    def _calibrated(self) -> Floats:
        """Probabilities [good, classes] by temperature scaling (Guo et al. 2017, section 4.2)."""
        scaled = self._logits / np.float32(self._facts.temperature)
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        result: Floats = powers / powers.sum(axis=1, keepdims=True)
        return result

    @cached_property
    def _best(self) -> NDArray[np.intp]:
        best: NDArray[np.intp] = self._logits.argmax(axis=1)
        return best

    @cached_property
    def _order(self) -> NDArray[np.intp]:
        """Class numbers of the most probable labels, best first [good, top]."""
        some = np.argpartition(-self._logits, self._facts.top - 1, axis=1)[:, : self._facts.top]
        ranks = np.argsort(-np.take_along_axis(self._logits, some, axis=1), axis=1, kind="stable")
        order: NDArray[np.intp] = np.take_along_axis(some, ranks, axis=1)
        return order

    def _rows(self, values: Array, empty: Any = 0) -> Array:
        """[good, d] -> [n, d]."""
        if len(values) == len(self.errors):
            return values
        rows = np.full((len(self.errors), values.shape[1]), empty, dtype=values.dtype)
        rows[[not error for error in self.errors]] = values
        return rows
