"""Removes the checkpoints of trials that nobody needs any more: 140 MB each for a ResNet-18."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from components.train.train import working_folder
from core.errors import UserError
from core.files import locked
from tuning.records import Journal, Sweep, Trial
from tuning.training import JOB, TrialJob
from workloads.configuration import RunConfig
from workloads.contract import load


class Tidy:
    """Remembers what it has removed in one sweep."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._done: set[int] = set()

    def tidy(self, journal: Journal) -> None:
        """Remove the checkpoints of stopped trials and of finished ones but the best.

        The best one's stay, so that a run with its values need not train again; failed ones' are named in their
        reason. A training that is not quite over is passed by, the next call finds it.
        """
        for trial in self._unneeded(journal):
            if _remove(self._work(self._sweep.with_values(trial.values))):
                self._done.add(trial.number)

    def sweep_up(self, folder: Path, journal: Journal) -> None:
        """When the sweep in `folder` is over: remove the checkpoints of all its trainings that are not to be kept.

        A population leaves more trainings than trials: one for each change of values.
        """
        finished = sorted(journal.in_state("finished"), key=lambda one: -(one.score or 0.0))
        kept = [*finished[:1], *journal.in_state("failed", "interrupted")]
        needed = {self._work(self._sweep.with_values(trial.values)) for trial in kept}
        for file in folder.glob(f"trainings/*/{JOB}"):
            work = self._work(load(self._sweep.workload).configuration(TrialJob.from_file(file).config))
            if work not in needed:
                _remove(work)

    def _work(self, config: RunConfig) -> Path:
        return working_folder(Path(self._sweep.work), Path(self._sweep.dataset), config)

    def _unneeded(self, journal: Journal) -> Iterator[Trial]:
        finished = sorted(journal.in_state("finished"), key=lambda one: -(one.score or 0.0))
        yield from (one for one in (*finished[1:], *journal.in_state("stopped")) if one.number not in self._done)


def _remove(folder: Path) -> bool:
    """Remove a training's working folder; false when it is in use."""
    if not folder.exists():
        return True
    with contextlib.suppress(UserError), locked(folder / "lock", "the training is not over"):
        shutil.rmtree(folder)
        return True
    return False
