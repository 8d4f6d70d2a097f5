"""Training on a GPU: `python -m benchmarks.gpu [--quick]` (exits with 1 when a bar is missed, 2 where there is no GPU).

The platform (`components.train.train`, one process, checkpoints and validation included), a plain script with a
DataLoader and one that keeps everything on the GPU (benchmarks/plain_gpu.py) train the same ResNet-18 on the same
rendered pills (simulated data) at 96 px in bf16. Each says its images a second and when the validation accuracy first
was TARGET; nvidia-smi says how busy the GPU was. Then: the same seed twice in the deterministic mode, and SIGTERM.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.train import dataset, write_arrays
from components.train.job import CHECKPOINT, CURVES, MODEL, Curves, TrainResult
from components.train.train import key, train
from core.errors import TemporaryError
from core.files import sha256_file
from core.objects import Store
from workloads.pills.recipes import PillsConfig, resnet18

PLATFORM_BAR = 1.03
SIGTERM_BAR = 5.0  # seconds until the checkpoint is written
TARGET = 0.95
BATCH, SIDE = 512, 96
SMI = [
    "nvidia-smi",
    "--query-gpu=utilization.gpu,memory.used,power.draw",
    "--format=csv,noheader,nounits",
    "-lms",
    "100",
]


class Found(NamedTuple):
    """One training."""

    wall: float
    images_per_second: float
    """In the loop, validation included."""
    target: float | None
    """Seconds of the loop until TARGET."""
    accuracy: float
    busy: float
    """Mean utilisation while the loop ran, percent."""
    memory_mb: float
    watts: float


class Usage:
    """What nvidia-smi says, ten times a second."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float]] = []

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Take samples in this block."""
        process = subprocess.Popen(SMI, stdout=subprocess.PIPE, text=True)
        reader = threading.Thread(target=self._read, args=(process,))
        reader.start()
        try:
            yield
        finally:
            process.terminate()
            reader.join()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        for line in process.stdout:
            with contextlib.suppress(ValueError):
                busy, memory, watts = map(float, line.split(","))
                self.rows.append((busy, memory, watts))

    def of_loop(self, seconds: float) -> tuple[float, float, float]:
        """(busy, memory, watts) of the last `seconds` before the GPU was left."""
        used = [number for number, row in enumerate(self.rows) if row[0] > 0]
        rows = self.rows[: used[-1] + 1][-max(1, int(seconds * 10)) :] if used else self.rows[-1:]
        busy, memory, watts = (list(column) for column in zip(*rows, strict=True))
        return sum(busy) / len(busy), max(memory), sum(watts) / len(watts)


class Bench:
    """The data, and the ways to train on it."""

    def __init__(self, folder: Path, epochs: int, images: int) -> None:
        self.folder, self.epochs = folder, epochs
        self.store = Store(str(folder / "objects"))
        data = dataset(folder / "data", self.store, classes=16, images=images, held_out=64)
        self.arrays = folder / "arrays.npz"
        write_arrays(self.arrays, data, self.config(), self.store)
        self.runs = 0

    def config(self, **changes: object) -> PillsConfig:
        """The default recipe at 96 px, with the batch of a GPU."""
        config = resnet18()
        length = {"images": 1, "min_epochs": self.epochs, "max_epochs": self.epochs}
        settings = config.train.model_copy(update={"batch": BATCH, "lr": 0.2 * BATCH / 128, **length, **changes})
        export = config.export.model_copy(update={"calibration_share": 0.0})
        return config.model_copy(update={"image_size": SIDE, "train": settings, "export": export})

    def trained(self, config: PillsConfig, name: str) -> tuple[TrainResult, Path]:
        """The result and its folder."""
        out = self.folder / name / "out"
        return train(self.folder / "data", config, self.store, self.folder / name, out, None, 1), out

    def platform(self, compiled: bool) -> Found:
        """One training by the platform."""
        self.runs += 1
        usage, began = Usage(), time.monotonic()
        with usage.watched():
            result, out = self.trained(self.config(compile=compiled), f"run{self.runs}")
        wall = time.monotonic() - began
        rows = Curves.from_file(out / CURVES).epochs
        target = next((row.seconds for row in rows if row.validation["score"] >= TARGET), None)
        accuracy = rows[-1].validation["score"]
        return Found(wall, result.images_per_second, target, accuracy, *usage.of_loop(result.seconds))

    def plain(self, how: str, compiled: bool) -> Found:
        """One training by a yardstick."""
        words = [sys.executable, "-m", "benchmarks.plain_gpu", str(self.arrays), str(self.epochs), str(BATCH), how]
        usage, began = Usage(), time.monotonic()
        with usage.watched():
            done = subprocess.run(
                [*words, *(["compile"] if compiled else [])], stdout=subprocess.PIPE, text=True, check=True
            )
        wall = time.monotonic() - began
        *rows, last = [json.loads(line) for line in done.stdout.splitlines()]
        target = next((row["seconds"] for row in rows if row["accuracy"] >= TARGET), None)
        return Found(wall, last["images_per_second"], target, rows[-1]["accuracy"], *usage.of_loop(rows[-1]["seconds"]))

    def deterministic(self) -> bool:
        """Whether the same seed gives the same weights."""
        config = self.config(deterministic=True, min_epochs=4, max_epochs=4)
        one, two = (sha256_file(self.trained(config, name)[1] / MODEL) for name in ("same1", "same2"))
        return one == two

    def interrupted(self) -> tuple[float, int]:
        """(seconds from SIGTERM to the end, step at which the next attempt goes on)."""
        config = self.config(min_epochs=400, max_epochs=400)
        progress = self.folder / "progress.json"
        os.environ["TITRATE_PROGRESS_FILE"] = str(progress)
        asked = [0.0]

        def ask() -> None:
            while not (progress.exists() and json.loads(progress.read_text() or "{}").get("done", 0) > 100):
                time.sleep(0.1)
            asked[0] = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            self.trained(config, "interrupted")
        except TemporaryError:
            seconds = time.monotonic() - asked[0]
        thread.join()
        file = self.folder / "interrupted" / "train" / key(self.folder / "data", config) / CHECKPOINT
        from safetensors import safe_open

        with safe_open(file, "pt") as opened:
            return seconds, json.loads(opened.metadata()["state"])["step"]


def main(quick: bool) -> int:
    """Print every training and the ratios."""
    if not torch.cuda.is_available():
        print("error: no GPU here; what it does on a CPU is measured by `make bench-train`", file=sys.stderr)
        return 2
    rounds, epochs, images = (1, 3, 128) if quick else (3, 30, 576)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {len(os.sched_getaffinity(0))} CPUs", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), epochs, images)
        found: dict[str, list[Found]] = {}

        def tell(name: str, one: Found) -> None:
            found.setdefault(name, []).append(one)
            target = "never" if one.target is None else f"{one.target:.1f} s"
            print(
                f"{name:20} {one.images_per_second:8,.0f} images/s  {TARGET} after {target:>7}  ends at "
                f"{one.accuracy:.3f}  {one.wall:5.1f} s whole  "
                f"GPU {one.busy:3.0f} %, {one.memory_mb:,.0f} MB, {one.watts:.0f} W",
                flush=True,
            )

        for _ in range(rounds):
            tell("platform", bench.platform(False))
            tell("plain, DataLoader", bench.plain("loader", False))
            tell("plain, on the GPU", bench.plain("device", False))
        tell("platform, compiled", bench.platform(True))
        tell("on the GPU, compiled", bench.plain("device", True))
        same = bench.deterministic()
        seconds, step = bench.interrupted()
    cost = min(one.wall for one in found["platform"]) / min(one.wall for one in found["plain, DataLoader"])
    print(f"platform / plain, whole time: {cost:.3f} (bar {PLATFORM_BAR})")
    print(f"deterministic: the same seed gives {'the same' if same else 'OTHER'} weights")
    print(f"SIGTERM: checkpoint of step {step} and end after {seconds:.1f} s (bar {SIGTERM_BAR:g})")
    return int(cost > PLATFORM_BAR or not same or seconds > SIGTERM_BAR or step == 0)


if __name__ == "__main__":
    sys.exit(main("--quick" in sys.argv))
