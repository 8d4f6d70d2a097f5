"""A loader epoch against decoding alone: `python -m benchmarks.loader` (exits with 1 when the bar is missed).

Decoding alone is what a loader that keeps nothing must at least do: read the file, decode it to uint8 [s, s, 3]; the
same without reading is shown too. A loader epoch reads the cache, augments, normalises and collates float32 batches.
CPU time of one thread, in turns; the fastest round of each counts. The images are 96 px JPEG files, the least work for
a decoder: larger photographs cost it more, and an epoch no more.
"""

import sys
import tempfile
import time
from pathlib import Path

import cv2

from benchmarks.train import dataset
from core.dataset import Dataset
from core.objects import Store
from workloads.pills import loader, preprocess
from workloads.pills.recipes import resnet18

BAR, ROUNDS = 0.9, 7
SIDES = (64, 96)


def decode_only(files: list[Path], side: int) -> float:
    """Images a second of CPU time."""
    began = time.process_time()
    for file in files:
        preprocess.decode(file.read_bytes(), side)
    return len(files) / (time.process_time() - began)


def from_memory(contents: list[bytes], side: int) -> float:
    """The same when the bytes are there already."""
    began = time.process_time()
    for content in contents:
        preprocess.decode(content, side)
    return len(contents) / (time.process_time() - began)


def epoch(source: loader.Source, number: int) -> float:
    """The same of one training epoch."""
    began = time.process_time()
    rows = sum(len(targets) for _, targets in source.training(number, 0, 0, 1))
    return rows / (time.process_time() - began)


def measure(folder: Path, data: Dataset, store: Store, side: int) -> float:
    """Print one line; the ratio."""
    source = loader.open_source(data, resnet18().model_copy(update={"image_size": side}), store, folder / "cache")
    digests = [sample.sha256 for sample in data.of("train")]
    files = [folder / "objects" / "blobs" / digest[:2] / digest for digest in digests]
    contents = [file.read_bytes() for file in files]
    rounds = [
        (decode_only(files, side), from_memory(contents, side), epoch(source, number)) for number in range(ROUNDS)
    ]
    decoding, memory, loading = (max(column) for column in zip(*rounds, strict=True))
    ratio = loading / decoding
    print(f"{side} px: read and decode {decoding:,.0f}, decode {memory:,.0f}, epoch {loading:,.0f} images/s")
    print(f"       epoch / read and decode {ratio:.2f} (bar {BAR}), epoch / decode {loading / memory:.2f}")
    return ratio


def main() -> int:
    """Print the ratios; 1 when one misses the bar."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(Path(folder, "objects")))
        data = dataset(Path(folder, "data"), store)
        return int(min(measure(Path(folder), data, store, side) for side in SIDES) < BAR)


if __name__ == "__main__":
    sys.exit(main())
