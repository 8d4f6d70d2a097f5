"""What the platform costs a training: `python -m benchmarks.train [--quick]` (exits with 1 when a bar is missed).

Platform: `components.train.train` in one process and one thread, from the call to the result on disk, with checkpoints,
MLflow and validation. Plain: benchmarks/plain_train.py, the same from the start of the interpreter. Both take turns;
the ratio of the fastest rounds is judged, because neighbours on the machine only ever add time.

DDP: images a second of one training in two processes, over those of two trainings of half the batch side by side.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import simplejpeg

from components.train.job import Tracking, TrainResult
from components.train.train import train
from core.dataset import Dataset, Sample
from core.objects import Store
from workloads.pills import loader
from workloads.pills.recipes import PillsConfig, demo
from workloads.pills.render import Rendering, photographs

PLATFORM_BAR, DDP_BAR = 1.03, 0.93
CLASSES, IMAGES = 8, 144
HELD_OUT = 16  # images of each class that select
EPOCH = CLASSES * (IMAGES - HELD_OUT)
SECONDS = 60
"""Of one plain training: what the default recipe takes on a processor that multiplies bf16; a slower one gets fewer
images."""


def dataset(
    folder: Path, store: Store, classes: int = CLASSES, images: int = IMAGES, held_out: int = HELD_OUT
) -> Dataset:
    """Rendered pills of 96 px: of each class `images`, of which `held_out` select; 1,024 and 128 by default."""
    samples = []
    rendering = Rendering(classes=classes, images_per_class=images, sessions=24, size=96, seed=0)
    for number, (row, image) in enumerate(photographs(rendering)):
        content = simplejpeg.encode_jpeg(image, quality=92, colorspace="RGB")
        side = "validation" if number % images < held_out else "train"
        facts = {name: row[name] for name in ("label", "group")}
        digest = store.put_blob(content)
        samples.append(Sample(id=row["path"], sha256=digest, split=side, width=96, height=96, dhash="0" * 16, **facts))
    return Dataset.write(folder, samples, workload="pills", image_size=64, synthetic=True, source="benchmark")


class Bench:
    """The data, and the ways to train on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(str(folder / "objects"))
        self.data = dataset(folder / "data", self.store)
        self.runs = 0

    def config(self, batch: int, images: int, seed: int = 0) -> PillsConfig:
        """The demo recipe for `images` images, whole epochs of them."""
        config = demo()
        changes = {"images": images, "min_epochs": 1, "max_epochs": 1000, "batch": batch, "seed": seed}
        export = config.export.model_copy(update={"calibration_share": 0.0})
        return config.model_copy(update={"train": config.train.model_copy(update=changes), "export": export})

    def platform(self, nproc: int, batch: int, images: int, seed: int = 0) -> tuple[float, TrainResult]:
        """Seconds from the call to the result, and the result."""
        self.runs += 1
        work = self.folder / f"run{self.runs}-{seed}"
        tracking = Tracking(uri=f"sqlite:///{work}.db", experiment="bench", run="bench")
        began = time.monotonic()
        result = train(
            self.folder / "data", self.config(batch, images, seed), self.store, work, work / "out", tracking, nproc
        )
        return time.monotonic() - began, result

    def plain(self, images: int) -> tuple[float, dict[str, float]]:
        """The same of the yardstick."""
        epochs = images // EPOCH
        words = [sys.executable, "-m", "benchmarks.plain_train", str(self._arrays()), str(epochs), "128"]
        began = time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return time.monotonic() - began, json.loads(done.stdout)

    def independent(self, images: int) -> float:
        """Images a second of two trainings at once, together."""
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda seed: self.platform(1, 64, images, seed)[1], (1, 2)))
        return sum(result.images_per_second for result in results)

    def _arrays(self) -> Path:
        path = self.folder / "arrays.npz"
        if not path.exists():
            write_arrays(path, self.data, self.config(128, EPOCH), self.store)
        return path


def write_arrays(path: Path, data: Dataset, config: PillsConfig, store: Store) -> None:
    """What a yardstick reads: all images as the network's input, and their class numbers."""
    found = {}
    for side, prefix in (("train", ""), ("validation", "val_")):
        samples = list(data.of(side))
        found[f"{prefix}images"] = np.concatenate(list(loader.images(samples, config, data.info, store)))
        found[f"{prefix}targets"] = np.array([data.labels.index(sample.label) for sample in samples])
    np.savez(path, **found)


def main(quick: bool) -> int:
    """Print the two ratios; 1 when one misses its bar."""
    os.environ["OMP_NUM_THREADS"] = "1"
    rounds, seconds = (1, 5) if quick else (3, SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        rate = bench.plain(EPOCH)[1]["images_per_second"]
        images = EPOCH * max(2, round(seconds * rate / EPOCH))
        ours, theirs, shared, alone = [], [], [], []
        for _ in range(rounds):
            ours.append(bench.platform(1, 128, images))
            theirs.append(bench.plain(images))
            shared.append(bench.platform(2, 128, images // 2)[1].images_per_second)
            alone.append(bench.independent(images // 4))
    cost = min(s for s, _ in ours) / min(s for s, _ in theirs)
    loop = min(r.seconds for _, r in ours) / min(r["loop_s"] for _, r in theirs)
    scaling = max(shared) / max(alone)
    print(f"{rounds} rounds of {images} images at 64 px; precision {ours[0][1].precision}")
    print(f"platform s  {[round(s, 1) for s, _ in ours]}   score {ours[0][1].score:.3f}")
    print(f"plain s     {[round(s, 1) for s, _ in theirs]}   accuracy {theirs[0][1]['accuracy']:.3f}")
    print(f"platform / plain: {cost:.3f} (bar {PLATFORM_BAR}); the loops alone: {loop:.3f}")
    print(f"DDP images/s {[round(v) for v in shared]}, two alone {[round(v) for v in alone]}")
    print(f"DDP / two alone: {scaling:.3f} (bar {DDP_BAR})")
    return int(cost > PLATFORM_BAR or scaling < DDP_BAR)


if __name__ == "__main__":
    sys.exit(main("--quick" in sys.argv))
