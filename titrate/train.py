"""`titrate train`: the training step alone, on the user's images: weights and curves, no export and no release."""

import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from components.train.job import Tracking, TrainResult
from components.train.train import train as run_training
from core.config import Config
from core.errors import UserError
from core.home import Home
from core.objects import Store
from titrate.configuration import configuration
from titrate.cost import Cost, Meter
from tuning.data import prepare


class Trained(Config):
    """What a training came to."""

    folder: str
    """With model.safetensors, config.json, curves.json and train.json."""
    result: TrainResult
    cost: Cost


class Asked(Config):
    """What the user typed."""

    workload: str
    data: str
    recipe: str | None = None
    config: str | None = None
    changes: tuple[str, ...] = ()
    nproc: int | None = None


def train(home: Home, asked: Asked) -> Trained:
    """Train (or go on with the same training that was interrupted); raises what the steps raise.

    Checkpoints are found by the content of data and configuration, so that the same command goes on.
    """
    if not Path(asked.data).exists():
        raise UserError(f"the data {asked.data!r} is not there")
    config = configuration(asked.workload, asked.recipe, asked.config, asked.changes)
    meter, name = Meter(), f"{asked.workload}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder, store = home.root / "trainings" / name, Store(f"file://{home.objects}")
    parts = prepare(asked.workload, Path(asked.data), store, home.work, folder)
    tracking = Tracking(uri=home.registry, experiment=asked.workload, run=name)
    out = folder / "trained"
    result = run_training(parts, config, store, home.work, out, tracking, asked.nproc)
    gpus = result.processes if result.device.startswith("cuda") else 0
    return Trained(folder=str(out), result=result, cost=meter.read().plus(Cost(gpu_seconds=result.seconds * gpus)))


def told(trained: Trained) -> str:
    """For people."""
    result, cost = trained.result, trained.cost
    score = "no rows select" if result.score is None else f"{result.score:.3f} (epoch {result.best_epoch})"
    pace = f"{result.seconds:.0f} s, {result.images_per_second:.0f} images/s"
    where = f"{result.processes} processes on {result.device}, {result.precision}"
    again = f", went on at step {result.resumed_at}" if result.resumed_at else ""
    return os.linesep.join(
        [
            f"score    {score}",
            f"training {result.epochs} epochs, {pace}; {where}{again}",
            f"used     {cost.cpu_seconds:.0f} s of processors, {cost.gpu_seconds:.0f} s of GPUs",
            f"weights  {trained.folder}",
        ]
    )
