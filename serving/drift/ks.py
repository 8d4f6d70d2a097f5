"""Kolmogorov-Smirnov per column: the reference is sorted once, a window is merged into it.

The p-value of the window is the smallest of k columns times k (Bonferroni): valid however the columns depend.
"""

from typing import NamedTuple, Self

import numpy as np
from scipy import stats

from serving.drift.measure import Measure
from serving.drift.sample import Classes, Values

SCORE_ALPHA = 0.001
"""The score is what sampling does not explain with this much confidence."""


class Ks(NamedTuple):
    """A sorted reference."""

    columns: Values
    """float64 [k, n], each row sorted."""

    @classmethod
    def fit(cls, values: Values, predictions: Classes, classes: int) -> Self:
        """Sort the reference [n, k]."""
        return cls(np.sort(np.ascontiguousarray(values.T), axis=1))

    def measure(self, values: Values, predictions: Classes) -> Measure:
        """The largest distance, its p-value over all columns; effect: `score`."""
        found = self.distances(values)
        worst, n, m = float(found.max()), self.columns.shape[1], len(values)
        p_value = min(1.0, len(found) * p_of(worst, n, m))
        return Measure(worst, p_value, score(worst, len(found), n, m), found)

    def distances(self, values: Values) -> Values:
        """float64 [k]: the largest difference of the two distribution functions; ties count once.

        It is reached at a value of the window or just before one: the window's function is flat in between.
        """
        window = np.sort(np.ascontiguousarray(values.T), axis=1)
        steps = np.arange(len(values) + 1) / len(values)
        return np.array([_distance(old, new, steps) for old, new in zip(self.columns, window, strict=True)])


def _distance(old: Values, new: Values, steps: Values) -> float:
    places = old.searchsorted(new, side="right")
    above = places / len(old)
    tied = (new[1:] == new[:-1]).any() or (old[places - 1] == new).any()  # place 0 looks at the largest: no tie
    if not tied:
        return float(max((steps[1:] - above).max(), (above - steps[:-1]).max()))
    upto, before = new.searchsorted(new, side="right"), new.searchsorted(new, side="left")
    below = old.searchsorted(new, side="left") / len(old)
    return float(max((steps[upto] - above).max(), (below - steps[before]).max()))


def p_of(distance: float, n: int, m: int) -> float:
    """Two-sided, of one column (the distribution that `scipy.stats.ks_2samp(method="asymp")` uses)."""
    return float(stats.kstwo.sf(distance, round(n * m / (n + m))))


def score(distance: float, columns: int, n: int, m: int) -> float:
    """The drift score of M07, 0..1: the largest distance less what sampling explains; grows with the distance.

    Two samples of one distribution exceed the margin in any of k columns with probability of at most SCORE_ALPHA
    (Dvoretzky, Kiefer & Wolfowitz with Massart's constant, two samples): so 0 is quiet and 1 shares no value.
    """
    margin = float(np.sqrt(np.log(2 * columns / SCORE_ALPHA) * (n + m) / (2 * n * m)))
    return max(0.0, (distance - margin) / (1 - margin)) if margin < 1 else 0.0
