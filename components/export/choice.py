"""int8 or fp32: the smaller and faster network where it gives the same answers, else the exact one, with a warning."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.export.int8 import agreement, speeds, write_int8
from components.export.network import Runtime
from components.export.report import Precision
from workloads.configuration import ExportConfig

Floats = NDArray[np.float32]

FP32, INT8, NETWORK = "fp32.onnx", "int8.onnx", "network.onnx"


@dataclass(frozen=True)
class Choice:
    """The network that will serve, and its answers on the validation rows."""

    precision: Precision
    logits: Floats
    embeddings: Floats


def choose(
    folder: Path,
    images: NDArray[np.uint8],
    normalise: Callable[[NDArray[np.uint8]], Floats],
    ranges: Sequence[Floats],
    config: ExportConfig,
) -> Choice:
    """Quantise `folder`/fp32.onnx over `ranges` (each float32 [1, 3, s, s]), compare both on `images` (uint8
    [n, s, s, 3]); leaves network.onnx."""
    side = images.shape[1]
    paths = [folder / FP32]
    answers = [Runtime(folder / FP32, side).over(images, normalise)]
    agreed = None
    if config.int8:
        write_int8(folder / FP32, ranges, folder / INT8)
        paths.append(folder / INT8)
        answers.append(Runtime(folder / INT8, side).over(images, normalise))
        agreed = agreement(answers[0][0], answers[1][0])
    take = int(agreed is not None and agreed >= config.min_agreement)
    speed, sizes = speeds(paths, side), [path.stat().st_size for path in paths]
    precision = Precision(
        chosen="int8" if take else "fp32",
        agreement=agreed,
        rows=len(images),
        fp32_bytes=sizes[0],
        int8_bytes=sizes[1] if config.int8 else None,
        fp32_speed=speed[0],
        int8_speed=speed[1] if config.int8 else None,
        warning="" if take or agreed is None else _warning(agreed, config.min_agreement, len(images)),
    )
    paths[take].rename(folder / NETWORK)
    for path in paths:
        path.unlink(missing_ok=True)
    return Choice(precision, *answers[take])


def _warning(agreed: float, wanted: float, rows: int) -> str:
    return (
        f"int8 gave the label of fp32 on {agreed:.2%} of {rows} validation images, less than {wanted:.2%}: "
        "this release serves fp32, larger and slower"
    )
