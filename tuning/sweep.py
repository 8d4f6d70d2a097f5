"""The driver of a sweep: Ray Tune tries values, each trial is a training as every other (trial.py, training.py).

By default Optuna's TPE proposes and ASHA stops early what the others leave behind; with `pbt` a population learns and
the worse go on from the better with changed values. What happens is in the journal (records.py), and from it alone a
resumed sweep knows what is done: the search is told of it, and interrupted trainings go on from their checkpoints.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from components.train.tracking import Tracker, flat
from core.errors import UserError
from core.files import locked, write_atomic
from tuning.engine import engine
from tuning.page import page
from tuning.records import ENDED, SWEEP, Journal, Sweep, Trial, interrupt
from tuning.result import SweepResult, result, with_importance
from tuning.search import population, tpe
from tuning.space import domains
from tuning.tidy import Tidy

RESERVE, RESERVE_SECONDS = 0.08, 8.0
"""How much of the budget is kept for ending trials and writing the result: a share, at most so many seconds."""
BEST, RESULT, PAGE = "best.json", "result.json", "report.html"


def sweep(
    settings: Sweep, folder: Path, ends: float = 0.0, show: Callable[[Trial], None] = lambda _: None
) -> SweepResult:
    """Run the sweep in `folder`, or go on with it; returns (and leaves there) what it found.

    `ends`: when all must be over, seconds since 1970; 0: when the trials are done. Raises UserError when no trial came
    to its end, and when the sweep in the folder searches something else.
    """
    settings.space.check(settings.base())
    same_sweep(settings, folder)
    with locked(folder / "lock", f"the sweep {folder.name!r} is running already"):
        write_atomic(folder / SWEEP, settings.model_dump_json(indent=1))
        journal = Journal(folder)
        interrupt(journal, journal.in_state("running"))
        if settings.trials > len(journal.in_state(*ENDED)):
            with _tracked(settings, folder) as tracker, engine(folder) as has:
                parent = tracker.run_id() if tracker else ""  # MLflow and Ray start side by side
                _fit(settings, folder, journal, _resources(settings, has), parent, ends, show)
        interrupt(journal, journal.in_state("running"))
        Tidy(settings).sweep_up(folder, journal)
        found = conclude(settings, folder, journal)
    _refuse_nothing(found, settings, folder, ends)
    return found


def same_sweep(settings: Sweep, folder: Path) -> None:
    """Raises UserError when `folder` holds a sweep that searches something else; names the difference."""
    if not (folder / SWEEP).exists():
        return
    before = Sweep.from_file(folder / SWEEP)
    wrong = before.space.differences(settings.space)
    ours, theirs = (dict(flat(one.base().model_dump(mode="json"))) for one in (before, settings))
    wrong += [f"{key} was {ours[key]!r} and is {theirs.get(key)!r}" for key in ours if ours[key] != theirs.get(key)]
    for name in ("workload", "dataset", "pbt", "stop_early", "latency"):
        if getattr(before, name) != getattr(settings, name):
            wrong.append(f"{name} was {getattr(before, name)!r} and is {getattr(settings, name)!r}")
    if wrong:
        raise UserError(
            f"the sweep {folder.name!r} cannot go on, it searched something else: {'; '.join(wrong)}. "
            "Start a new one without --resume"
        )


def conclude(settings: Sweep, folder: Path, journal: Journal) -> SweepResult:
    """Write what the journal says as result.json, report.html and best.json; returns it."""
    trials = [trial for _, trial in sorted(journal.trials.items())]
    found = with_importance(settings, result(settings, trials, folder.name))
    found = found.model_copy(update={"report": str(folder / PAGE)})
    if found.best is not None:
        best = settings.with_values(found.trial(found.best).values)
        write_atomic(folder / BEST, best.model_dump_json(indent=2))
        found = found.model_copy(update={"config": str(folder / BEST)})
    write_atomic(folder / RESULT, found.model_dump_json(indent=1))
    write_atomic(folder / PAGE, page(settings, found))
    return found


@contextlib.contextmanager
def _tracked(settings: Sweep, folder: Path) -> Iterator[Tracker | None]:
    """The sweep's own MLflow run for the block; none when nothing is tracked."""
    if settings.tracking is None:
        yield None
        return
    params = {"trials": settings.trials, "seed": settings.seed, "pbt": settings.pbt, "latency": settings.latency}
    space = {f"space.{key}": span.model_dump_json() for key, span in settings.space.keys.items()}
    tracker = Tracker(
        settings.tracking, folder, {**params, **space}, {"sweep": folder.name, "workload": settings.workload}
    )
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    finally:
        tracker.finish(status)


def _resources(settings: Sweep, has: dict[str, float]) -> dict[str, float]:
    """What a trial takes; raises UserError when there is not so much."""
    devices = has.get("GPU", 0.0)
    wanted = {"CPU": settings.cpus, "GPU": min(1.0, devices) if settings.gpus is None else settings.gpus}
    for name, amount in wanted.items():
        if amount > has.get(name, 0.0):
            raise UserError(f"a trial asks for {amount:g} {name}, and there are {has.get(name, 0.0):g}; ask for less")
    return wanted


def _fit(
    settings: Sweep,
    folder: Path,
    journal: Journal,
    resources: dict[str, float],
    parent: str,
    ends: float,
    show: Callable[[Trial], None],
) -> None:
    from ray import tune

    from tuning.follow import Follower
    from tuning.trial import TrialRun

    left = max(0.0, ends - time.time())
    deadline = ends - min(RESERVE_SECONDS, RESERVE * left) if ends else 0.0
    trainable = tune.with_parameters(
        TrialRun, sweep=settings, folder=str(folder), parent=parent, deadline=deadline, gpus=resources["GPU"]
    )
    searcher = population(settings, journal) if settings.pbt else tpe(settings, journal)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {name.lower(): amount for name, amount in resources.items()}),
        param_space=domains(settings.space) if settings.pbt else None,
        tune_config=tune.TuneConfig(
            **searcher,
            num_samples=settings.trials - len(journal.in_state(*ENDED)),
            time_budget_s=max(0.1, deadline - time.time()) if ends else None,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=f"ray-{time.time_ns():x}",
            storage_path=str(folder / "ray"),
            verbose=0,
            callbacks=[Follower(settings, journal, deadline, show)],
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, num_to_keep=4 if settings.pbt else None),
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(folder / "ray", ignore_errors=True)  # what Tuner.restore would read


def _refuse_nothing(found: SweepResult, settings: Sweep, folder: Path, ends: float) -> None:
    """Raises UserError when no trial came to its end: why, and what to do."""
    if found.best is not None:
        return
    failed = [trial for trial in found.trials if trial.state == "failed"]
    if failed and len(failed) == len(found.trials):
        raise UserError(f"all {len(failed)} trials failed; trial {failed[0].number}: {failed[0].reason}")
    far = max((trial.percent for trial in found.trials), default=0.0)
    what = "the budget ended" if ends else "the sweep was interrupted"
    raise UserError(
        f"{what} before a single trial came to its end: the furthest had done {far:.0f} % of its training. Go on with "
        f"`titrate tune {settings.workload} --resume {folder.name}`, with a larger --budget, "
        "or try shorter trainings (--set train.images=...)"
    )


def read(folder: Path) -> SweepResult:
    """What is known of the sweep in `folder`, while it runs too."""
    if not (folder / SWEEP).exists():
        raise UserError(f"there is no sweep {folder.name!r}")
    settings = Sweep.from_file(folder / SWEEP)
    journal = Journal(folder)
    if (folder / RESULT).exists() and not journal.in_state("running"):
        return SweepResult.from_file(folder / RESULT)
    return result(settings, [trial for _, trial in sorted(journal.trials.items())], folder.name)
