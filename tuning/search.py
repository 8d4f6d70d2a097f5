"""How a sweep searches: what proposes values, and what ends or changes trials on the way (in the words of Ray Tune)."""

from typing import Any, Literal

from tuning.records import ENDED, Journal, Sweep, Trial
from tuning.space import distributions, domains

GRACE, KEEP = 12, 3
"""ASHA's first look, percent of a training, and of how many trials one goes on at each look (Li et al. 2020): looks at
12 and 36 percent."""
INTERVAL = 20
"""Percent of a training between two exchanges of the population."""


def tpe(settings: Sweep, journal: Journal) -> dict[str, Any]:
    """TPE, told of what is known, and ASHA: the arguments of Ray's TuneConfig."""
    import optuna
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from tuning.distinct import Distinct

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spans = distributions(settings.space)
    metrics, modes = (["score", "latency_ms"], ["max", "min"]) if settings.latency else ("score", "max")
    storage = optuna.storages.InMemoryStorage()
    directions: list[Literal["minimize", "maximize"]] = ["maximize", "minimize"] if settings.latency else ["maximize"]
    study = optuna.create_study(storage=storage, study_name="optuna", directions=directions)
    for trial in journal.in_state(*ENDED):
        study.add_trial(_known(trial, spans, settings.latency))
    # Another seed for each resumption: the same would propose the first trials again.
    sampler = optuna.samplers.TPESampler(seed=settings.seed + 7919 * len(journal.trials))
    search = OptunaSearch(
        spans,
        metric=metrics,
        mode=modes,
        points_to_evaluate=[trial.values for trial in journal.in_state("interrupted")],
        sampler=sampler,
        study_name="optuna",
        storage=storage,
    )
    asha = ASHAScheduler(
        time_attr="percent", metric="score", mode="max", max_t=100, grace_period=GRACE, reduction_factor=KEEP
    )
    known = [trial.values for trial in journal.in_state(*ENDED)]
    return {"search_alg": Distinct(search, known), "scheduler": asha if settings.stop_early else None}


def _known(trial: Trial, spans: Any, latency: bool) -> Any:
    """A trial that has ended, for Optuna."""
    import optuna

    wanted = [trial.score, trial.latency_ms] if latency else [trial.score]
    values = [value for value in wanted if value is not None]
    good = trial.state != "failed" and len(values) == len(wanted)
    state = optuna.trial.TrialState.COMPLETE if good else optuna.trial.TrialState.FAIL
    return optuna.trial.create_trial(
        state=state, params=trial.values, distributions=spans, values=values if good else None
    )


def population(settings: Sweep, journal: Journal) -> dict[str, Any]:
    """Random values at first, which the population then changes: the arguments of Ray's TuneConfig."""
    from ray.tune.schedulers import PopulationBasedTraining
    from ray.tune.search.basic_variant import BasicVariantGenerator

    first = BasicVariantGenerator(
        points_to_evaluate=[trial.values for trial in journal.in_state("interrupted")],
        random_state=settings.seed + len(journal.trials),
    )
    pbt = PopulationBasedTraining(
        time_attr="percent",
        metric="score",
        mode="max",
        perturbation_interval=INTERVAL,
        hyperparam_mutations=domains(settings.space, midway=True),
    )
    return {"search_alg": first, "scheduler": pbt}
