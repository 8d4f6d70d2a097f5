"""The judge of a rollout: all metrics of both arms, one error for rolling back, another for promoting.

alpha bounds the chance that a candidate within every margin is ever rolled back; it is split over metrics by weight.
alpha_promote bounds the chance that a candidate at or beyond a margin is promoted; it is not split, because every
metric must pass (intersection-union). `look` goes once per look, `findings` says where each metric stands.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from core.config import Config
from core.errors import UserError, nearest
from core.evidence import categories, confidence, mixture, strata, two_sample
from core.evidence.bernoulli import Array
from core.evidence.strata import Observation, Pair
from core.verdict import Outcome, Verdict


class Metric(Config):
    """One question about both arms."""

    name: str
    margin: Annotated[float, Field(gt=0, lt=1)]
    """Tolerated excess of the candidate's bad rate (0.01: one more bad answer in a hundred). With categories: tolerated
    total variation between the arms' mixes."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Part of alpha, relative to the other metrics."""
    categories: Annotated[int, Field(ge=2)] | None = None
    """None: bad or not. Else the number of categories (classes, confidence bins) whose mix is compared."""
    guard: bool = False
    """True: watched for harm, but promotion does not wait for it (slices too rare to be shown good; mixes)."""

    @model_validator(mode="after")
    def _mix_is_guard(self) -> Self:
        if self.categories and not self.guard:
            raise ValueError("a mix of categories can only be a guard; set guard to true")
        return self


class Judge(Config):
    """What a rollout is judged by."""

    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)]
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Chance of ever rolling back a candidate within every margin; 1 in 100 good candidates may be lost."""
    alpha_promote: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Chance of promoting a candidate at or beyond a margin, all retries together."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len({metric.name for metric in self.metrics}) < len(self.metrics):
            raise ValueError("two metrics have one name; give each its own")
        return self

    def alpha_of(self, metric: Metric) -> float:
        """The metric's part of alpha."""
        return self.alpha * metric.weight / sum(other.weight for other in self.metrics)


class JudgeState(Config):
    """All that was learned; its size does not depend on the number of looks. Tuples have one entry per metric."""

    waiting: tuple[Pair, ...]
    """Counts of looks still too small to judge."""
    seen: tuple[Pair, ...]
    """Counts of all judged looks."""
    pairs: tuple[float, ...]
    harm: tuple[tuple[float, ...], ...]
    fit: tuple[tuple[float, ...], ...]
    sums: tuple[tuple[float, ...], ...]
    """`confidence.Sums`, for the intervals that people see."""


class Finding(Config):
    """Where one metric stands."""

    metric: str
    harm: float
    """log of the evidence that the candidate is worse than its margin allows, nats."""
    harm_limit: float
    fit: float | None
    """log of the evidence that it is not; None for a guard."""
    fit_limit: float
    verdict: Verdict


def begin(judge: Judge) -> JudgeState:
    """State before the first look."""
    none = tuple(strata.nothing(metric.categories or 2) for metric in judge.metrics)
    first = two_sample.start((len(none),))
    sums = confidence.empty((len(none),))
    return JudgeState(
        waiting=none,
        seen=none,
        pairs=_rows(first.pairs),
        harm=_rows(first.harm),
        fit=_rows(first.fit),
        sums=_rows(np.array(sums).T),
    )


def retried(judge: Judge, state: JudgeState) -> JudgeState:
    """State with which the same candidate tries again: evidence for promotion is carried on, so that alpha_promote
    holds over all tries; evidence of harm begins anew, with its own alpha, or the retry would end at once."""
    first = begin(judge)
    return state.model_copy(update={"pairs": first.pairs, "harm": first.harm, "waiting": first.waiting})


def look(judge: Judge, state: JudgeState, observations: Mapping[str, Observation]) -> JudgeState:
    """State after one look; metrics without an observation stay as they are.

    Raises UserError for an unknown metric, or counts that do not fit its categories.
    """
    _check(judge, observations)
    pools = [
        _pool(observations.get(metric.name), old) for metric, old in zip(judge.metrics, state.waiting, strict=True)
    ]
    judged, waiting = zip(*map(strata.split, pools), strict=True)
    if not any(map(any, (arm for pair in judged for arm in pair))):
        return state.model_copy(update={"waiting": waiting})
    rows = [_bernoulli(*row) for row in zip(judge.metrics, state.seen, judged, strict=True)]
    seen_n, seen_k, *counts = np.array(rows, float).T
    now = two_sample.Look(*counts)
    old = two_sample.Evidence(np.array(state.pairs), np.array(state.harm), np.array(state.fit))
    margin = np.array([metric.margin for metric in judge.metrics])
    new = two_sample.update(old, margin, seen_n, seen_k, now)
    sums = confidence.add(confidence.Sums(*np.array(state.sums).T), now)
    return JudgeState.model_construct(
        waiting=waiting,
        seen=tuple(map(strata.add, state.seen, judged)),
        pairs=_rows(new.pairs),
        harm=_rows(new.harm),
        fit=_rows(new.fit),
        sums=_rows(np.array(sums).T),
    )


def _check(judge: Judge, observations: Mapping[str, Observation]) -> None:
    sizes = {metric.name: metric.categories or 2 for metric in judge.metrics}
    for name, seen in observations.items():
        if name not in sizes:
            raise UserError(f"no metric {name!r}; {nearest(name, sizes)}")
        if {len(seen.stable), len(seen.candidate)} != {sizes[name]} or min(*seen.stable, *seen.candidate) < 0:
            raise UserError(f"metric {name!r} takes {sizes[name]} counts of at least 0 per arm, not {seen!r}")


def _pool(seen: Observation | None, waiting: Pair) -> Pair:
    return strata.add((seen.stable, seen.candidate), waiting) if seen else waiting


def _bernoulli(metric: Metric, seen: Pair, now: Pair) -> tuple[int, ...]:
    """(n_s, k_s) of stable's earlier looks and (n_s, k_s, n_c, k_c) of this; a mix asks about the set that gains."""
    chosen = categories.gaining(*seen, metric.margin) if metric.categories else (0,)
    return *strata.within(seen, chosen)[:2], *strata.within(now, chosen)


def _rows(values: Array) -> Any:
    """Nested tuples of floats, as the state holds them."""
    return tuple(map(tuple, values.tolist())) if values.ndim > 1 else tuple(values.tolist())


def findings(judge: Judge, state: JudgeState) -> tuple[Finding, ...]:
    """Where each metric stands, in the order of the judge."""
    harm, fit = mixture.mean(np.array(state.harm)), mixture.mean(np.array(state.fit))
    return tuple(
        _finding(judge, metric, float(harm[i]), None if metric.guard else float(fit[i]))
        for i, metric in enumerate(judge.metrics)
    )


def _finding(judge: Judge, metric: Metric, harm: float, fit: float | None) -> Finding:
    harm_limit, fit_limit = float(-np.log(judge.alpha_of(metric))), float(-np.log(judge.alpha_promote))
    if harm >= harm_limit:
        outcome, reason = Outcome.FAIL, f"harm: evidence {harm:.2f} reached {harm_limit:.2f} nats"
    elif fit is not None and fit >= fit_limit:
        outcome, reason = Outcome.PASS, f"within the margin: evidence {fit:.2f} reached {fit_limit:.2f} nats"
    else:
        good = "" if fit is None else f", for the candidate {fit:.2f} of {fit_limit:.2f}"
        outcome, reason = Outcome.INCONCLUSIVE, f"evidence of harm {harm:.2f} of {harm_limit:.2f} nats{good}"
    verdict = Verdict(
        question=f"{metric.name}: candidate within {metric.margin:g} of stable",
        outcome=outcome,
        reason=reason,
        value=harm,
        limit=harm_limit,
    )
    return Finding(metric=metric.name, harm=harm, harm_limit=harm_limit, fit=fit, fit_limit=fit_limit, verdict=verdict)
