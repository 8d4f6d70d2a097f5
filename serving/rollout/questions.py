"""What a spec asks of core/evidence: one judge of both arms, and monitors against fixed limits.

One alpha covers everything that can roll back: the judge and the limits share it by weight.
"""

from collections.abc import Sequence
from typing import NamedTuple

from core.evidence.judge import Judge
from core.evidence.judge import Metric as Question
from core.evidence.one_sample import Limit, Monitor
from serving.rollout.metrics import (
    AGREEMENT,
    DRIFT,
    Agreement,
    Compared,
    Confidence,
    Drift,
    Metric,
    Mix,
    Slice,
    name_of,
    size_of,
)

WORLD_ALPHA = 0.01
"""Chance of the alert that the world has changed while it has not; it never rolls back."""


class Error(NamedTuple):
    """The errors that a spec allows."""

    alpha: float
    alpha_promote: float
    limits_weight: float


class Questions(NamedTuple):
    """What is asked."""

    judge: Judge
    limits: Monitor | None
    world: Monitor | None


def questions(metrics: Sequence[Metric], slices: Sequence[Slice], error: Error, alone: bool) -> Questions:
    """The judge and the monitors of a spec; `alone`: the candidate ends without a stable arm to compare with."""
    rows = [row for metric in metrics if (row := _row(metric))]
    for part in slices:
        share = part.weight / len(part.names)
        rows += [Question(name=name, margin=part.margin, weight=share, guard=True) for name in part.names]
    limits = tuple(limit for metric in metrics if (limit := _limit(metric, alone)))
    both = sum(row.weight for row in rows)
    whole = both + (error.limits_weight if limits else 0.0)
    drift = next((metric for metric in metrics if isinstance(metric, Drift)), None)
    world = (Limit(name=DRIFT, rate=drift.limit),) if drift else ()
    return Questions(
        Judge(metrics=tuple(rows), alpha=error.alpha * both / whole, alpha_promote=error.alpha_promote),
        _monitor(limits, error.alpha * error.limits_weight / whole),
        _monitor(world, WORLD_ALPHA),
    )


def _row(metric: Metric) -> Question | None:
    match metric:
        case Compared():
            return Question(name=metric.name, margin=metric.margin, weight=metric.weight, guard=metric.guard)
        case Drift():
            return Question(name=DRIFT, margin=metric.margin, weight=metric.weight, guard=True)
        case Mix() | Confidence():
            name, size = name_of(metric), size_of(metric)
            return Question(name=name, margin=metric.margin, weight=metric.weight, guard=True, categories=size)
        case _:
            return None


def _limit(metric: Metric, alone: bool) -> Limit | None:
    match metric:
        case Agreement():
            return Limit(name=AGREEMENT, rate=metric.limit, weight=metric.weight)
        case Compared(limit=float(rate)) if alone:
            return Limit(name=metric.name, rate=rate, weight=metric.weight)
        case _:
            return None


def _monitor(limits: tuple[Limit, ...], alpha: float) -> Monitor | None:
    return Monitor(limits=limits, alpha=alpha, repeating=False) if limits else None
