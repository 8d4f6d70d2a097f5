"""One trial as Ray Tune sees it: a step waits for the next epoch of the training's process (training.py).

Stopping is safe at any moment: the training is no thread of Ray's worker but a process that `cleanup` ends, and that
ends by itself when the worker is killed.
"""

import shutil
import time
from pathlib import Path
from typing import Any

from ray import tune

from components.train.job import BEST, CHECKPOINT, EpochReport
from components.train.train import working_folder
from core.config import canonical_json
from core.errors import PermanentError, TemporaryError
from core.files import sha256_bytes
from tuning.records import Sweep
from tuning.training import TrialJob, TrialProcess
from workloads.space import Scalar

LOOK_SECONDS = 0.05
TIME = "percent"
"""What ASHA and PBT count in: percent of the training, so that trials of different lengths compare."""


def training_folder(sweep: Path, values: dict[str, Scalar]) -> Path:
    """Where the training with these values leaves its output, below the sweep's folder."""
    return sweep / "trainings" / sha256_bytes(canonical_json(values).encode())[:12]


class TrialRun(tune.Trainable):  # type: ignore[misc] # ray has no annotations here
    """A trial: `config` holds the values of the space's keys."""

    def setup(
        self,
        config: dict[str, Any],
        sweep: Sweep | None = None,
        folder: str = "",
        parent: str = "",
        deadline: float = 0.0,
        gpus: float = 0.0,
    ) -> None:
        """Take over a trial; its process starts with the first step, when PBT has put a checkpoint in place.

        `deadline`: when the budget is over, seconds since 1970; 0: never.
        """
        if sweep is None:
            raise PermanentError("a trial without its sweep")
        self.sweep, self.folder, self.parent, self.deadline, self.gpus = sweep, Path(folder), parent, deadline, gpus
        self._take(config)

    def _take(self, config: dict[str, Any]) -> None:
        self.values: dict[str, Scalar] = {key: config[key] for key in self.sweep.space.keys}
        self.done = 0
        self.last: EpochReport | None = None
        self.process: TrialProcess | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial in the same worker."""
        self.cleanup()
        self._take(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Wait for an epoch and report it; raises when the training failed or the budget is over."""
        if self.process is None:
            self.process = self._start()
        while True:
            over = self.process.code()  # asked first: what it wrote before it ended is read below
            report = self.process.epoch()
            if report and report.epoch > self.done and report.epoch < report.epochs:
                self.done, self.last = report.epoch, report
                return _told(report, ended=False)
            if report:
                self.last = report
            elif over is not None:
                return self._ended(over)
            elif self.deadline and time.time() > self.deadline:
                self.cleanup()
                raise TemporaryError("the budget is over")
            else:
                time.sleep(LOOK_SECONDS)

    def _start(self) -> TrialProcess:
        folder = training_folder(self.folder, self.values)
        job = TrialJob(
            sweep=self.sweep,
            config=self.sweep.with_values(self.values).model_dump_json(),
            nproc=max(1, int(self.gpus or self.sweep.cpus)),
            run=f"{self.folder.name}-{folder.name}",
            parent=self.parent,
        )
        return TrialProcess(folder, job, threads=max(1, int(self.sweep.cpus) // job.nproc))

    def _ended(self, code: int) -> dict[str, Any]:
        process = self.process
        if process is None or code != 0:
            reason = process.reason() if process else ""
            self.cleanup()
            raise PermanentError(reason)
        if self.last is None:
            raise PermanentError("the training ended and told of no epoch")
        told = _told(self.last, ended=True)
        self.cleanup()
        return told

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """For PBT: the newest checkpoint of the training."""
        for name in (BEST, CHECKPOINT):
            shutil.copyfile(self._work() / name, Path(checkpoint_dir, name))
        Path(checkpoint_dir, "epoch").write_text(str(self.done))

    def load_checkpoint(self, checkpoint: str) -> None:
        """For PBT: the next step goes on from another trial's checkpoint, with this trial's values."""
        self._work().mkdir(parents=True, exist_ok=True)
        for name in (BEST, CHECKPOINT):
            shutil.copyfile(Path(checkpoint, name), self._work() / name)
        self.done = int(Path(checkpoint, "epoch").read_text())

    def _work(self) -> Path:
        return working_folder(Path(self.sweep.work), Path(self.sweep.dataset), self.sweep.with_values(self.values))

    def cleanup(self) -> None:
        """End the training, with everything that it started."""
        if self.process:
            self.process.stop()
            self.process = None


def _told(report: EpochReport, ended: bool) -> dict[str, Any]:
    if report.score is None:
        raise PermanentError("no row of the dataset selects: a sweep has nothing to compare")
    return {
        "score": report.score,
        "latency_ms": report.latency_ms,
        "network": report.network,
        TIME: 100 * report.epoch / report.epochs,
        "done": ended,
    }
