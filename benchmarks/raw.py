"""The work of one answer without any server: decode, resize, normalise, network, probabilities, in one process.

What every figure of serving.py is compared with, and the model of its peers (which run this file in environments of
their own): it imports numpy, openvino and what the release's preprocess.py needs, nothing of this project.
"""

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

SETTINGS: dict[str, Any] = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "ENABLE_CPU_PINNING": False,
    "INFERENCE_PRECISION_HINT": "f32",
}
"""As in serving/triton/model.py."""
TOP = 5


class Raw:
    """`<folder>/network.onnx` with `<folder>/preprocess.py`, compiled for one batch."""

    def __init__(self, folder: Path, side: int, batch: int) -> None:
        core = openvino.Core()
        model = core.read_model(folder / "network.onnx")
        model.reshape({"images": [batch, 3, side, side]})
        self._request = core.compile_model(model, "CPU", SETTINGS).create_infer_request()
        self._preprocess = _module(folder / "preprocess.py")
        self._side = side

    def __call__(self, images: Sequence[bytes]) -> tuple[Any, Any]:
        """JPEG files, as many as the batch -> numbers of the most probable classes [n, 5] and their probabilities."""
        pixels = np.stack([self._preprocess.decode(image, self._side) for image in images])
        self._request.set_input_tensor(openvino.Tensor(self._preprocess.normalise(pixels), shared_memory=True))
        self._request.infer()
        logits = self._request.get_tensor("logits").data
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        order = np.argsort(-logits, axis=1)[:, :TOP]
        return order, np.take_along_axis(powers / powers.sum(axis=1, keepdims=True), order, axis=1)


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loop(folder: Path, side: int, image: bytes, orders: Any) -> None:
    """A process that answers (batch, seconds) from the pipe `orders` with (images, CPU seconds, seconds of each call).

    None ends it.
    """
    compiled = {batch: Raw(folder, side, batch) for batch in (1, 8)}
    orders.send("ready")
    while order := orders.recv():
        batch, seconds = order
        cpu, until, times = time.process_time(), time.monotonic() + seconds, []
        while (began := time.monotonic()) < until:
            compiled[batch]([image] * batch)
            times.append(time.monotonic() - began)
        orders.send((batch * len(times), time.process_time() - cpu, times))
