"""The trained network as ONNX: written, checked against torch, and run as the server runs it."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray
from torch import nn

from core.errors import PermanentError

Floats = NDArray[np.float32]

INPUT, OUTPUTS = "images", ("logits", "embedding", "activation")
TOLERANCE = 1e-4
"""Largest difference between ONNX and torch, absolute; float32 sums in another order differ by 1e-6 to 1e-5."""
BATCH = 8
OPENVINO = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}
"""As in the server: not bf16 where the CPU has it, so that answers are equal on every machine."""


def write_onnx(network: nn.Module, images: torch.Tensor, opset: int, target: Path) -> float:
    """Write `network` to `target` with a free batch size; returns its largest difference from torch on `images`.

    Raises PermanentError when that is above TOLERANCE.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of torch's own deprecated calls
        program = torch.onnx.export(
            network,
            (images[:2],),
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("n")},),
            verbose=False,
        )
    assert program is not None  # nosec B101 # for mypy
    model = program.model_proto
    _forget_origin(model)
    onnx.checker.check_model(model, full_check=True)
    target.write_bytes(model.SerializeToString())
    return _compare(network, images, target)


def _forget_origin(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: source paths of this machine, which no other machine's export would repeat."""
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""


def _compare(network: nn.Module, images: torch.Tensor, target: Path) -> float:
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    found = session.run(list(OUTPUTS), {INPUT: images.numpy()})
    with torch.no_grad():
        expected = [output.numpy() for output in network(images)]
    differences = {
        name: float(np.abs(one - other).max()) for name, one, other in zip(OUTPUTS, found, expected, strict=True)
    }
    worst = max(differences, key=lambda name: differences[name])
    if not differences[worst] <= TOLERANCE:
        raise PermanentError(f"the exported {worst!r} differs from torch by {differences[worst]:.2g} (> {TOLERANCE:g})")
    return differences[worst]


class Runtime:
    """An ONNX file, run by OpenVINO on the CPU in batches of BATCH."""

    def __init__(self, path: Path, side: int, batch: int = BATCH, threads: int = 0) -> None:
        model = openvino.Core().read_model(path)
        model.reshape({INPUT: [batch, 3, side, side]})
        options = {**OPENVINO, **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
        self._batch = batch
        self._request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def over(
        self, images: NDArray[np.uint8], normalise: Callable[[NDArray[np.uint8]], Floats]
    ) -> tuple[Floats, Floats]:
        """uint8 [n, s, s, 3] -> logits float32 [n, classes], embedding float32 [n, d]."""
        starts = range(0, len(images), self._batch)
        logits, embedding = zip(
            *(self(normalise(images[start : start + self._batch])) for start in starts), strict=True
        )
        return np.concatenate(logits), np.concatenate(embedding)

    def __call__(self, inputs: Floats) -> tuple[Floats, Floats]:
        """The same of at most one batch of float32 [n, 3, s, s]."""
        padded = np.zeros((self._batch, *inputs.shape[1:]), np.float32)
        padded[: len(inputs)] = inputs
        self._request.infer({INPUT: padded})
        logits, embedding = (self._request.get_tensor(name).data[: len(inputs)].copy() for name in OUTPUTS[:2])
        return logits, embedding
