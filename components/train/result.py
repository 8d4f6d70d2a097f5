"""The folder that a finished training leaves: weights, configuration, curves, and what was measured on the way."""

import shutil
from pathlib import Path

from components.train.checkpoint import State
from components.train.job import BEST, CONFIG, CURVES, MODEL, RESULT, TrainResult
from components.train.loop import Training
from core.files import new_folder, write_atomic


def write(training: Training, state: State, mlflow_run: str) -> TrainResult:
    """Write `model.safetensors` (the best epoch), `config.json`, `curves.json` and `train.json` to the job's `out`."""
    done = training.plan.total * training.source.batch
    result = TrainResult(
        best_epoch=state.best_epoch,
        score=state.best_score,
        epochs=training.plan.epochs,
        steps=training.plan.total,
        batch=training.source.batch,
        processes=training.team.world,
        device=training.team.device.type,
        precision="bf16" if training.bf16 else "fp32",
        seconds=state.seconds,
        images_per_second=done / state.seconds,
        resumed_at=training.resumed_at,
        dataset=training.dataset.info.digest,
        code=training.job.code,
        environment=training.job.environment,
        mlflow_run=mlflow_run,
    )
    with new_folder(Path(training.job.out)) as draft:
        shutil.copyfile(training.job.folder / BEST, draft / MODEL)
        write_atomic(draft / CONFIG, training.config.model_dump_json(indent=2))
        write_atomic(draft / CURVES, state.curves.model_dump_json())
        write_atomic(draft / RESULT, result.model_dump_json(indent=2))
    return result
