"""What a sweep has found: the best trial, which trials no other beats in both score and latency, what mattered."""

import statistics
from collections import defaultdict
from collections.abc import Sequence

from pydantic import Field

from core.config import Config
from tuning.records import Sweep, Trial
from tuning.space import distributions

LEAST_TRIALS = 4
"""With fewer, importance is chance."""


class SweepResult(Config):
    """`result.json`: everything the page and `titrate tune show` say."""

    id: str
    workload: str
    recipe: str
    pbt: bool
    trials: tuple[Trial, ...]
    best: int | None
    """Number of the finished trial with the highest score; none when none finished."""
    front: tuple[int, ...]
    """Finished trials that no other finished one beats in score and latency, fastest first."""
    importance: dict[str, float] = Field(default_factory=dict)
    """Share of the score's variance that a key explains (fANOVA, Hutter et al. 2014), largest first; empty when the
    trials are too few."""
    importance_percent: float = 0.0
    """At this much of the training, which all those trials reached."""
    config: str = ""
    """Path of the best configuration, for `titrate run --config`; empty while the sweep runs."""
    report: str = ""
    """Path of the page."""

    def trial(self, number: int) -> Trial:
        """The trial of this number."""
        return next(trial for trial in self.trials if trial.number == number)

    def counts(self) -> dict[str, float]:
        """The numbers that a dashboard shows."""
        scores = {"score": self.trial(self.best).score or 0.0} if self.best is not None else {}
        return {"finished": sum(trial.state == "finished" for trial in self.trials), **scores}


def result(sweep: Sweep, trials: Sequence[Trial], name: str) -> SweepResult:
    """What is known of a sweep, without importance (`with_importance` takes seconds)."""
    shared = same_latency(trials)
    finished = [trial for trial in shared if trial.state == "finished" and trial.score is not None]
    best = max(finished, key=lambda trial: (trial.score or 0.0, -(trial.latency_ms or 0.0)), default=None)
    return SweepResult(
        id=name,
        workload=sweep.workload,
        recipe=sweep.base().recipe,
        pbt=sweep.pbt,
        trials=tuple(shared),
        best=best.number if best else None,
        front=tuple(trial.number for trial in front(finished)),
    )


def same_latency(trials: Sequence[Trial]) -> list[Trial]:
    """The trials, those of one network with one latency: the median of what each of them measured."""
    measured: dict[str, list[float]] = defaultdict(list)
    for trial in trials:
        if trial.latency_ms is not None:
            measured[trial.network].append(trial.latency_ms)
    medians = {network: statistics.median(values) for network, values in measured.items()}
    return [trial.model_copy(update={"latency_ms": medians.get(trial.network)}) for trial in trials]


def front(trials: Sequence[Trial]) -> list[Trial]:
    """The Pareto set of score (higher) and latency (lower), fastest first; of equal trials the first."""
    measured = [trial for trial in trials if trial.latency_ms is not None and trial.score is not None]
    ranked = sorted(measured, key=lambda trial: (trial.latency_ms or 0.0, -(trial.score or 0.0), trial.number))
    kept: list[Trial] = []
    for trial in ranked:
        if not kept or (trial.score or 0.0) > (kept[-1].score or 0.0):
            kept.append(trial)
    return kept


def with_importance(sweep: Sweep, found: SweepResult) -> SweepResult:
    """The result with the importance of each key, over the trials that have a score."""
    scored = [trial for trial in found.trials if trial.curve]
    if len(scored) < LEAST_TRIALS:
        return found
    percent = min(trial.curve[-1][0] for trial in scored)
    scores = [_score_at(trial, percent) for trial in scored]
    if max(scores) == min(scores):
        return found
    shares = _fanova(sweep, scored, scores)
    return found.model_copy(update={"importance": shares, "importance_percent": percent})


def _score_at(trial: Trial, percent: float) -> float:
    """The score of the last epoch that is not beyond `percent` (of the first, when all are)."""
    reached = [score for at, score in trial.curve if at <= percent + 1e-9]
    return reached[-1] if reached else trial.curve[0][1]


def _fanova(sweep: Sweep, trials: Sequence[Trial], scores: Sequence[float]) -> dict[str, float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    spans = distributions(sweep.space)
    for trial, score in zip(trials, scores, strict=True):
        study.add_trial(optuna.trial.create_trial(params=trial.values, distributions=spans, value=score))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return {
        key: float(share) for key, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()
    }
