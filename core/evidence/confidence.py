"""Intervals that hold at every look at once, for people: a rate of one arm, and the difference of both.

Decisions are taken by the e-processes, never by these. Rates may change from look to look: the interval covers the
mean of the true rates (or differences) that were in force, weighted as the observations were.
"""

from typing import NamedTuple

import numpy as np

from core.evidence.bernoulli import Array
from core.evidence.two_sample import PRIOR_ALL, PRIOR_BAD, Look

STEPS = np.geomspace(0.002, 0.9, 12)
"""Bets over which the bound takes the best; each gets an equal part of the error."""


class Sums(NamedTuple):
    """Running sums, each with any shape [...]; constant size. v_* are sums of squared prediction errors."""

    n_s: Array
    k_s: Array
    v_s: Array
    n_c: Array
    k_c: Array
    v_c: Array
    pairs: Array
    """Sum of h = n_s n_c / (n_s + n_c) over looks."""
    excess: Array
    """Sum of h (k_c / n_c - k_s / n_s) over looks."""
    v_excess: Array


class Interval(NamedTuple):
    """Lower end, estimate, upper end; the whole range where nothing was observed."""

    low: Array
    middle: Array
    high: Array


def empty(shape: tuple[int, ...]) -> Sums:
    """Sums before the first look."""
    return Sums(*(np.zeros(shape) for _ in Sums._fields))


def add(sums: Sums, look: Look) -> Sums:
    """Sums after `look`; each arm is predicted by its rate of the earlier looks."""
    n_s, k_s, n_c, k_c = look
    square_s = _squares(n_s, k_s, (sums.k_s + PRIOR_BAD) / (sums.n_s + PRIOR_ALL))
    square_c = _squares(n_c, k_c, (sums.k_c + PRIOR_BAD) / (sums.n_c + PRIOR_ALL))
    total = np.maximum(n_s + n_c, 1)
    w_s, w_c = n_c / total, n_s / total
    return Sums(
        sums.n_s + n_s,
        sums.k_s + k_s,
        sums.v_s + square_s,
        sums.n_c + n_c,
        sums.k_c + k_c,
        sums.v_c + square_c,
        sums.pairs + n_s * n_c / total,
        sums.excess + w_c * k_c - w_s * k_s,
        sums.v_excess + w_s**2 * square_s + w_c**2 * square_c,
    )


def _squares(n: Array, k: Array, guess: Array) -> Array:
    return np.asarray(k * (1 - guess) ** 2 + (n - k) * guess**2)


def radius(v: Array, alpha: float) -> Array:
    """Bound on |sum of deviations from the true means| at every look at once, with probability 1 - alpha.

    Empirical Bernstein: exp(l S - psi(l) V) is a supermartingale for observations within 1 of their predictions,
    psi(l) = -log(1 - l) - l, 0 < l < 1, V the squared prediction errors (Howard, Ramdas, McAuliffe & Sekhon 2021,
    theorem 4). The best of a fixed set of l is taken, by the union bound.
    """
    cost = np.log(2 * len(STEPS) / alpha)
    psi = -np.log1p(-STEPS) - STEPS
    return np.asarray(((cost + psi * v[..., None]) / STEPS).min(axis=-1))


def rate(n: Array, k: Array, v: Array, alpha: float) -> Interval:
    """Confidence sequence of one arm's rate, 0..1."""
    width, middle = _per(radius(v, alpha), n), _per(k, n)
    known = n > 0
    return Interval(
        np.where(known, np.maximum(middle - width, 0), 0.0),
        np.where(known, middle, 0.5),
        np.where(known, np.minimum(middle + width, 1), 1.0),
    )


def excess(sums: Sums, alpha: float) -> Interval:
    """Confidence sequence of theta_c - theta_s, -1..1, each look compared within itself."""
    width, middle = _per(radius(sums.v_excess, alpha), sums.pairs), _per(sums.excess, sums.pairs)
    known = sums.pairs > 0
    return Interval(
        np.where(known, np.maximum(middle - width, -1), -1.0),
        np.where(known, middle, 0.0),
        np.where(known, np.minimum(middle + width, 1), 1.0),
    )


def _per(total: Array, count: Array) -> Array:
    return np.asarray(total / np.where(count > 0, count, 1.0))
