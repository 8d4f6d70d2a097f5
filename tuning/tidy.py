"""Removes the checkpoints of trials that nobody needs any more: 140 MB each for a ResNet-18."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from components.train.train import working_folder
from core.errors import UserError
from core.files import locked
from tuning.records import Journal, Sweep, Trial


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
            folder = working_folder(
                Path(self._sweep.work), Path(self._sweep.dataset), self._sweep.with_values(trial.values)
            )
            if folder.exists():
                with contextlib.suppress(UserError), locked(folder / "lock", "the training is not over"):
                    shutil.rmtree(folder)
                    self._done.add(trial.number)

    def _unneeded(self, journal: Journal) -> Iterator[Trial]:
        finished = sorted(journal.in_state("finished"), key=lambda one: -(one.score or 0.0))
        yield from (one for one in (*finished[1:], *journal.in_state("stopped")) if one.number not in self._done)
