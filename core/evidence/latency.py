"""Latency from histogram counts: "slower than the limit" as a Bernoulli event, and quantiles with their certainty."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from core.errors import UserError
from core.evidence import bernoulli, mixture
from core.evidence.bernoulli import Array
from core.evidence.one_sample import EXCESSES


class Quantile(NamedTuple):
    """Bounds of a quantile, in the unit of the bucket bounds; 0 and infinity where the counts say nothing."""

    low: float
    high: float


def slower_than(limit: float, bounds: Sequence[float], counts: Sequence[int]) -> tuple[int, int]:
    """(n, k): all requests, and those slower than `limit`, which must be the upper bound of a bucket.

    `bounds` are the finite upper bounds, ascending; `counts` one per bucket (not cumulative) and one more for slower.
    Raises UserError when the limit falls inside a bucket: a guess between bounds is no count.
    """
    _check(bounds, counts)
    if limit not in bounds:
        raise UserError(f"latency limit {limit!r} is not a bucket bound; choose one of {list(bounds)!r}")
    return sum(counts), sum(counts[list(bounds).index(limit) + 1 :])


def quantile(p: float, bounds: Sequence[float], counts: Sequence[int], alpha: float) -> Quantile:
    """Confidence sequence of the p-quantile from the counts of all looks so far, to the nearest bucket bound.

    "The quantile is above b" is "more than 1 - p are slower than b": a one-sample test per bound and side at alpha/2.
    Evidence falls from bound to bound, so an error on a side implies one at a single bound (the last below, or the
    first above, the true quantile), and no further correction is needed (as Howard & Ramdas 2022). Valid while the
    true share of slower requests stays on one side of 1 - p at that bound.
    """
    _check(bounds, counts)
    n = float(sum(counts))
    slower = n - np.cumsum(counts[:-1])
    need = np.log(2 / alpha)
    above = _log_mean(n, slower, 1 - p) >= need
    below = _log_mean(n, n - slower, p) >= need
    low = max((b for b, sure in zip(bounds, above, strict=True) if sure), default=0.0)
    high = min((b for b, sure in zip(bounds, below, strict=True) if sure), default=float("inf"))
    return Quantile(low, high)


def _log_mean(n: float, k: Array, limit: float) -> Array:
    """log of the mean likelihood ratio of rates above `limit`, for each k of n."""
    rates = limit + (1 - limit) * EXCESSES
    return mixture.mean(bernoulli.log_ratio(np.array(n), k[:, None], rates, np.array(limit)))


def _check(bounds: Sequence[float], counts: Sequence[int]) -> None:
    if len(counts) != len(bounds) + 1 or list(bounds) != sorted(set(bounds)):
        raise UserError(f"{len(counts)} counts for bounds {list(bounds)!r}: give ascending bounds and one count more")
