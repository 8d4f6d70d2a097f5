"""int8 weights and activations, used only where they give the answers of fp32 (T09)."""

import contextlib
import io
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from components.export.network import INPUT, Runtime
from components.export.report import Speed

Floats = NDArray[np.float32]

REPEATS = 30
"""Timed runs of each kind, in turn, so that both see the same machine."""


def write_int8(fp32: Path, calibration: Sequence[Floats], target: Path) -> None:
    """Quantise an ONNX file with NNCF (ranges from `calibration`, each float32 [1, 3, s, s]) into `target`.

    The result is ONNX with QuantizeLinear and DequantizeLinear, which OpenVINO runs as fast as its own int8 format
    (measured 1.0 of it at 64 px), so that a release holds one kind of network.
    """
    with _quiet():
        import nncf

        data = nncf.Dataset(calibration, lambda images: {INPUT: images})
        model = nncf.quantize(onnx.load(fp32), data, subset_size=len(calibration))
    onnx.checker.check_model(model, full_check=True)
    target.write_bytes(model.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without NNCF's progress bars and notes."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def agreement(logits: Floats, others: Floats) -> float:
    """Share of rows with the same highest logit; NaN of no rows."""
    return float((logits.argmax(axis=1) == others.argmax(axis=1)).mean())


def speeds(paths: Sequence[Path], side: int) -> list[Speed]:
    """The speed of each network on one thread."""
    found = {}
    for batch in (1, 8):
        runtimes = [Runtime(path, side, batch, threads=1) for path in paths]
        images = np.zeros((batch, 3, side, side), np.float32)
        times = np.array([[_seconds(runtime, images) for runtime in runtimes] for _ in range(REPEATS)])
        found[batch] = batch / np.median(times, axis=0)
    return [Speed(one=round(one, 1), eight=round(eight, 1)) for one, eight in zip(found[1], found[8], strict=True)]


def _seconds(runtime: Runtime, images: Floats) -> float:
    began = time.perf_counter()
    runtime(images)
    return time.perf_counter() - began
