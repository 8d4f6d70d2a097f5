"""Writes down what Ray Tune says of the trials, and hands it to who shows it: the sweep's journal (records.py)."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from tuning.records import Journal, State, Sweep, Trial
from tuning.tidy import Tidy
from tuning.trial import TIME
from workloads.space import Scalar

Show = Callable[[Trial], None]


class Follower(tune.Callback):  # type: ignore[misc] # ray has no annotations here
    """Follows the trials of one sweep."""

    def __init__(self, sweep: Sweep, journal: Journal, deadline: float, show: Show) -> None:
        self._sweep, self._journal, self._deadline, self._show = sweep, journal, deadline, show
        self._numbers: dict[str, int] = {}
        self._tidy = Tidy(sweep)

    def __getstate__(self) -> dict[str, Any]:
        """Ray keeps its callbacks for a Tuner.restore that is not used here: nothing to keep."""
        return {}

    def on_trial_start(self, trial: Any, **info: Any) -> None:
        """A trial begins, or begins again after a pause."""
        values = self._values(trial)
        if trial.trial_id not in self._numbers:
            number = self._numbers[trial.trial_id] = self._journal.number(values)
            before = self._journal.trials.get(number, Trial(number=number, values=values, state="running"))
            self._note(before.model_copy(update={"state": "running"}))

    def on_trial_result(self, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """An epoch is done."""
        known = self._known(trial)
        changes = {
            "values": self._values(trial),
            "score": result["score"],
            "percent": result[TIME],
            "curve": (*known.curve, (result[TIME], result["score"])),
            "latency_ms": result["latency_ms"],
            "network": result["network"],
            "seconds": result["time_total_s"],
        }
        self._note(known.model_copy(update=changes))

    def on_trial_complete(self, trial: Any, **info: Any) -> None:
        """A training is done, or was stopped before its end."""
        known = self._known(trial)
        early: State = "interrupted" if self._over() else "stopped"
        self._end(known.model_copy(update={"state": "finished" if known.percent >= 100 else early}))

    def on_trial_error(self, trial: Any, **info: Any) -> None:
        """A training failed, or the budget was over."""
        state: State = "interrupted" if self._over() else "failed"
        reason = "" if self._over() else _reason(trial)
        self._end(self._known(trial).model_copy(update={"state": state, "reason": reason}))

    def _over(self) -> bool:
        return 0 < self._deadline < time.time()

    def _values(self, trial: Any) -> dict[str, Scalar]:
        return {key: trial.config[key] for key in self._sweep.space.keys}

    def _known(self, trial: Any) -> Trial:
        return self._journal.trials[self._numbers[trial.trial_id]]

    def _note(self, trial: Trial) -> None:
        self._journal.write(trial)
        self._show(trial)

    def _end(self, trial: Trial) -> None:
        self._note(trial)
        self._tidy.tidy(self._journal)


def _reason(trial: Any) -> str:
    """What to tell people of what Ray caught: the end of its trace, from the error on."""
    text = Path(trial.error_file).read_text().strip() if trial.error_file else "no reason was given"
    return re.split(r"^[\w.]*core\.errors\.\w+: ", text, flags=re.MULTILINE)[-1].splitlines()[-1]
