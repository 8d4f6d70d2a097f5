"""What a sweep keeps on disk, as JSON: what it searches and what became of each trial.

A killed driver leaves these files, and `--resume` goes on from them (sweep.py): no pickle, nothing of Ray's.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from components.train.job import Tracking
from core.config import Config, with_values
from core.files import write_atomic
from workloads.configuration import RunConfig
from workloads.contract import load
from workloads.space import Scalar, Space

SWEEP = "sweep.json"
State = Literal["running", "finished", "stopped", "failed", "interrupted"]
ENDED: frozenset[State] = frozenset({"finished", "stopped", "failed"})
"""States that a resumed sweep does not run again."""


class Sweep(Config):
    """`sweep.json`: everything that decides what a sweep tries."""

    workload: str
    dataset: str
    """Folder of the dataset with its sides."""
    store: str
    """URI of the object store."""
    work: str
    """Folder for unfinished trainings and decoded images; shared by the trials."""
    config: str
    """The run configuration around which is searched, JSON."""
    space: Space
    origin: str = ""
    """The file that the space came from; empty: the workload's own."""
    fixed: tuple[str, ...] = ()
    """Keys that the user gave a value and took out of the space with it."""
    trials: int = 24
    seed: int = 0
    """Of the search; the trainings have the configuration's."""
    cpus: float = 1.0
    """Cores of a trial, and its processes where there is no GPU; less than one shares a core."""
    gpus: float | None = None
    """GPUs of a trial; a share of one is possible. None: one where there is any."""
    pbt: bool = False
    """Population-based training instead of ASHA and TPE."""
    stop_early: bool = True
    """ASHA ends trials that others leave behind; without it each is trained to its end."""
    latency: bool = False
    """Search for a low latency as well as for a high score."""
    tracking: Tracking | None = None
    """Of the sweep's own MLflow run; the trials are its children."""

    def base(self) -> RunConfig:
        """The configuration around which is searched."""
        return load(self.workload).configuration(self.config)

    def with_values(self, values: dict[str, Scalar]) -> RunConfig:
        """The configuration of a trial; raises UserError for values that do not go together."""
        return with_values(self.base(), values, "trial")


class Trial(Config):
    """`trials/<number>.json`: one trial."""

    number: int
    """From 1, in the order of their first start."""
    values: dict[str, Scalar]
    """What was tried, by key of the space."""
    state: State
    """stopped: early, because others were better; interrupted: by the budget or with the driver, a resumed sweep goes
    on with it."""
    score: float | None = None
    """The best epoch's on the rows that select."""
    percent: float = 0.0
    """How much of its training was done."""
    curve: tuple[tuple[float, float], ...] = ()
    """(percent, score) after each epoch."""
    latency_ms: float | None = None
    network: str = ""
    seconds: float = 0.0
    reason: str = ""
    """Why it failed."""


class Journal:
    """The trials of a sweep, a file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "trials"
        self.trials = {trial.number: trial for trial in map(Trial.from_file, sorted(self._folder.glob("*.json")))}

    def write(self, trial: Trial) -> None:
        """Keep what is now known of a trial."""
        self.trials[trial.number] = trial
        write_atomic(self._folder / f"{trial.number:04d}.json", trial.model_dump_json(indent=1))

    def in_state(self, *states: State) -> list[Trial]:
        """The trials in these states, by number."""
        return [trial for _, trial in sorted(self.trials.items()) if trial.state in states]

    def number(self, values: dict[str, Scalar]) -> int:
        """The number for a trial that starts: that of an interrupted one with these values, else the next."""
        same = [trial.number for trial in self.in_state("interrupted") if trial.values == values]
        return same[0] if same else max(self.trials, default=0) + 1


def interrupt(journal: Journal, trials: Iterable[Trial]) -> None:
    """Note that nobody works on these any more."""
    for trial in trials:
        journal.write(trial.model_copy(update={"state": "interrupted"}))
