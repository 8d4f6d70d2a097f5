"""Is a rate above a fixed limit? For promoted releases (accuracy, latency), drift scores and delayed labels.

There is no stable arm to compare with. Several limits of one model are averaged into one detector, so that the
promise (one false alarm in so many updates) is made once per model.
"""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from core.config import Config
from core.errors import UserError, nearest
from core.evidence import bernoulli, mixture
from core.evidence.bernoulli import Array
from core.verdict import Outcome, Verdict

EXCESSES = np.geomspace(0.01, 0.9, 12)
"""Alternatives: shares of the way from the limit to 1 (or to 0)."""


class Limit(Config):
    """One rate of bad events that must not be exceeded."""

    name: str
    rate: Annotated[float, Field(gt=0, lt=1)]
    """Highest tolerated share of bad events, for example 0.15 for an accuracy of at least 0.85 (R05)."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Part of the average, relative to the other limits."""


class Monitor(Config):
    """What is watched and how often it may cry wolf."""

    limits: Annotated[tuple[Limit, ...], Field(min_length=1)]
    alpha: Annotated[float, Field(gt=0, lt=1)]
    """Repeating: one over the average run length, in updates, while all rates keep their limits. Else: the chance of
    ever raising a false alarm."""
    repeating: bool = True
    """True: an e-detector, which never grows tired and forgets good times. False: one test of all time."""


class MonitorState(Config):
    """What the next update needs."""

    log_r: tuple[tuple[float, ...], ...]
    """Per limit, per alternative."""


def begin(monitor: Monitor) -> MonitorState:
    """State before the first update, and after an alarm was handled."""
    first = mixture.NOTHING if monitor.repeating else 0.0
    return MonitorState(log_r=((first,) * len(EXCESSES),) * len(monitor.limits))


def log_e(n: Array, k: Array, limit: Array) -> Array:
    """log E of k bad in n against theta <= limit, one per alternative: [..., len(EXCESSES)].

    The nearest point of the null to an alternative above the limit is the limit itself, at any n.
    """
    wide = limit[..., None]
    return bernoulli.log_ratio(n[..., None], k[..., None], wide + (1 - wide) * EXCESSES, wide)


def advance(log_r: Array, ratio: Array, repeating: bool) -> Array:
    """R_t = E_t (R_(t-1) + 1) of an e-detector, or the plain product of a test."""
    return mixture.multiply(log_r, ratio, np.array(0.0 if repeating else mixture.NOTHING))


def observe(monitor: Monitor, state: MonitorState, counts: Mapping[str, tuple[float, float]]) -> MonitorState:
    """State after one update, at fixed clock intervals; `counts` has (n, k bad) by limit. No observation: unchanged.

    Counts over s are for events of which up to s may say the same: the product of e-values to the power 1/s is at most
    the mean of the s, whatever their dependence (inequality of the means). Raises UserError for an unknown limit or
    counts that are none.
    """
    for name, (n, k) in counts.items():
        if not 0 <= k <= n:
            raise UserError(f"limit {name!r}: {k!r} bad of {n!r} is no count; give 0 <= bad <= all")
    names = [limit.name for limit in monitor.limits]
    if unknown := set(counts) - set(names):
        raise UserError(f"no limit {min(unknown)!r}; {nearest(min(unknown), names)}")
    pairs = np.array([counts.get(name, (0, 0)) for name in names], float)
    old = np.array(state.log_r)
    rates = np.array([limit.rate for limit in monitor.limits])
    new = advance(old, log_e(pairs[:, 0], pairs[:, 1], rates), monitor.repeating)
    kept = np.where(pairs[:, :1] > 0, new, old)
    return MonitorState(log_r=tuple(map(tuple, kept.tolist())))


def each(state: MonitorState) -> Array:
    """log of every limit's own evidence, float64 [limits]."""
    return mixture.mean(np.array(state.log_r))


def evidence(monitor: Monitor, state: MonitorState) -> float:
    """log of the weighted mean over limits: the mean of e-detectors is an e-detector of the same run length."""
    weights = np.array([limit.weight for limit in monitor.limits])
    return float(np.logaddexp.reduce(each(state) + np.log(weights / weights.sum())))


def judge(monitor: Monitor, state: MonitorState) -> Verdict:
    """Fail at log(1/alpha). Below it inconclusive: the absence of an alarm proves nothing."""
    value, limit = evidence(monitor, state), float(-np.log(monitor.alpha))
    names = ", ".join(f"{item.name} <= {item.rate:g}" for item in monitor.limits)
    strongest = monitor.limits[int(np.argmax(each(state)))].name
    return Verdict(
        question=names,
        outcome=Outcome.FAIL if value >= limit else Outcome.INCONCLUSIVE,
        reason=f"evidence {max(value, 0):.2f} of {limit:.2f} nats, most of it from {strongest}",
        value=max(value, mixture.NOTHING),
        limit=limit,
    )


def tolerated(n: float, k: float, alpha: float, tolerance: float) -> float:
    """Limit for a monitor against a finite reference: upper bound of the reference's rate plus a stated tolerance.

    Harmful drift (Podkopaev & Ramdas 2022): H0 is "risk on the target <= risk on the source + tolerance". The source
    risk is replaced by its upper bound at level `alpha`, here Chernoff's: the largest p with
    n KL(k/n||p) <= log(1/alpha). Counts over s are for samples of which up to s may say the same, as in `observe`.
    A monitor of level alpha_T against this limit errs with probability at most alpha + alpha_T. Raises UserError.
    """
    if not 0 <= k <= n or n == 0:
        raise UserError(f"a reference with {k!r} bad of {n!r} bounds nothing; give at least one labelled sample")
    share = np.array(min(max(k / n, bernoulli.EDGE), 1 - bernoulli.EDGE))
    low, high = float(share), 1 - bernoulli.EDGE
    for _ in range(60):
        middle = (low + high) / 2
        inside = n * float(bernoulli.kl(share, np.array(middle))) <= -np.log(alpha)
        low, high = (middle, high) if inside else (low, middle)
    return min(high + tolerance, 1 - bernoulli.EDGE)
