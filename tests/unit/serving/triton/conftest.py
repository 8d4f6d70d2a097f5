import importlib
import json
import sys
import types
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.colours import LABELS, write_repository


@dataclass
class Tensor:
    """What model.py uses of `pb_utils.Tensor`."""

    label: str
    array: np.ndarray

    def name(self):
        return self.label

    def as_numpy(self):
        return self.array


@dataclass
class Request:
    tensors: list
    asked: list
    name: str = ""
    given: str = "{}"

    def inputs(self):
        return self.tensors

    def requested_output_names(self):
        return self.asked

    def request_id(self):
        return self.name

    def parameters(self):
        return self.given


@dataclass
class Response:
    output_tensors: list
    error: object = None

    def values(self):
        return {tensor.label: tensor.array for tensor in self.output_tensors}


class TritonError(Exception):
    INVALID_ARG = 3

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


@dataclass
class Metric:
    labels: dict
    buckets: list | None = None
    value: float = 0.0
    observed: list = field(default_factory=list)

    def increment(self, by):
        self.value += by

    def set(self, value):
        self.value = value

    def observe(self, value):
        self.observed.append(value)


class MetricFamily:
    COUNTER, HISTOGRAM, GAUGE = 1, 2, 3
    made: dict

    def __init__(self, name, description, kind):
        self.metrics = self.made.setdefault(name, [])

    def Metric(self, labels, buckets=None):  # noqa: N802 - Triton's name
        self.metrics.append(Metric(labels, buckets))
        return self.metrics[-1]


@pytest.fixture
def pb_utils(monkeypatch):
    """The part of Triton's module that exists only inside its stub."""
    module = types.ModuleType("triton_python_backend_utils")
    MetricFamily.made = {}
    module.Tensor, module.InferenceResponse = Tensor, Response
    module.TritonError, module.MetricFamily = TritonError, MetricFamily
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.fixture
def triton_model(pb_utils, monkeypatch):
    """serving.triton.model, imported as inside Triton."""
    monkeypatch.delitem(sys.modules, "serving.triton.model", raising=False)
    return importlib.import_module("serving.triton.model")


OUTPUTS = (
    *("label", "probability", "labels", "probabilities", "abstain", "embedding"),
    *("release", "error", "explanation"),
)


@pytest.fixture
def model(triton_model, monkeypatch, tmp_path):
    """The colour model, loaded."""
    monkeypatch.setenv("TITRATE_RELEASE", "c0ffee")
    folder = write_repository(tmp_path) / "pills"
    outputs = [{"name": name, "dims": [len(LABELS)]} for name in OUTPUTS]
    config = json.dumps({"output": outputs})
    loaded = triton_model.TritonPythonModel()
    loaded.initialize({"model_repository": str(folder), "model_version": "1", "model_config": config})
    yield loaded
    if not loaded._counts._closed.is_set():  # a test may have done it
        loaded.finalize()


@pytest.fixture
def ask():
    """A request with one input and the outputs that it asks for."""

    def make(name, array, *asked):
        return Request([Tensor(name, array)], list(asked))

    return make
