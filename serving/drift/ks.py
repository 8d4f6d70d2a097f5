"""Kolmogorov-Smirnov per column: the reference is put into tables once, a window is counted into them unsorted.

The p-value of the window is the smallest of k columns times k (Bonferroni): valid however the columns depend.
"""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from serving.drift.measure import Measure
from serving.drift.sample import Classes, Values

CELLS = 4096
"""Of each column's range. More would find places in fewer steps, and leave the cache."""
TOGETHER = 32
"""Columns counted at once: their tables stay in the cache."""
STEPS = 6
"""Neighbours of one cell that are passed one by one."""
SCORE_ALPHA = 0.001
"""The score is what sampling does not explain with this much confidence."""


class Ks(NamedTuple):
    """Tables of a reference of n rows and k columns."""

    size: int
    """n"""
    lowest: Values
    """float64 [k]"""
    scale: Values
    """Cells per unit of each column, float64 [k]: a column's range is cut into CELLS equal ones."""
    distinct: Values
    """float64 [k, n + 1]: each column's distinct values in order, then NaN."""
    upto: Values
    """float64 [k, n + 1]: share of the reference up to each of them."""
    first: NDArray[np.int64]
    """[k, CELLS]: how many distinct values lie in the cells before."""

    @classmethod
    def fit(cls, values: Values, predictions: Classes, classes: int) -> Self:
        """Tables of the reference [n, k]."""
        size, count = values.shape
        lowest, span = values.min(axis=0), np.ptp(values, axis=0)
        scale = np.where(span > 0, CELLS / np.where(span > 0, span, 1.0), 0.0)
        distinct, upto = np.full((count, size + 1), np.nan), np.ones((count, size + 1))
        first = np.zeros((count, CELLS), np.int64)
        for column in range(count):
            found, counts = np.unique(values[:, column], return_counts=True)
            distinct[column, : len(found)], upto[column, : len(found)] = found, counts.cumsum() / size
            cells = _cells(found, lowest[column], scale[column])
            first[column, 1:] = np.bincount(cells, minlength=CELLS).cumsum()[:-1]
        return cls(size, lowest, scale, distinct, upto, first)

    def measure(self, values: Values, predictions: Classes) -> Measure:
        """The largest distance, its p-value over all columns; effect: `score`."""
        found = self.distances(values)
        worst, n, m = float(found.max()), self.size, len(values)
        p_value = min(1.0, len(found) * p_of(worst, n, m))
        return Measure(worst, p_value, score(worst, len(found), n, m), found)

    def distances(self, values: Values) -> Values:
        """float64 [k]: the largest difference of the two distribution functions; ties count once."""
        parts = [slice(begin, begin + TOGETHER) for begin in range(0, len(self.distinct), TOGETHER)]
        return np.concatenate([self._distances(np.ascontiguousarray(values[:, part].T), part) for part in parts])

    def _distances(self, window: Values, part: slice) -> Values:
        """Of the columns in `part`, [k, m].

        Neither sample need be merged: between two neighbours u < v of the reference its function is flat, so that the
        window's is furthest above it just before v and furthest below it at u.
        """
        known, upto, places = self.distinct[part], self.upto[part], self._places(window, part)
        tied = known.ravel().take(places - 1) == window
        counts, equal = (np.bincount(of.ravel(), minlength=upto.size) for of in (places, places[tied] - 1))
        share = 1 / window.shape[1]
        before = counts.reshape(upto.shape).cumsum(axis=1)
        within = before + equal.reshape(upto.shape) if tied.any() else before
        above = (before[:, 1:] * share - upto[:, :-1]).max(axis=1)
        return np.maximum(np.maximum(above, before[:, 0] * share), (upto - within * share).max(axis=1))

    def _places(self, window: Values, part: slice) -> NDArray[np.int64]:
        """How many of the reference's distinct values are at most each number, int64 [k, m] in the flat table.

        The cell tells nearly how many; values of the same cell are passed one by one, or searched if they are many.
        """
        count, width = len(window), self.distinct.shape[1]
        cells = _cells(window, self.lowest[part, None], self.scale[part, None])
        cells += np.arange(0, count * CELLS, CELLS)[:, None]
        places = self.first[part].ravel().take(cells)
        places += np.arange(0, count * width, width)[:, None]
        known, flat, numbers = self.distinct[part].ravel(), places.ravel(), window.ravel()
        left = np.flatnonzero(known.take(flat) <= numbers)
        for _ in range(STEPS):
            flat[left] += 1
            left = left[known.take(flat[left]) <= numbers[left]]
        for column in np.unique(left // window.shape[1]):
            found = np.searchsorted(self.distinct[part][column], window[column], side="right")
            places[column] = column * width + found
        return places


def _cells(numbers: Values, lowest: Values, scale: Values) -> NDArray[np.int64]:
    """Never falls as a number grows, rounding included: what lies in an earlier cell is smaller."""
    return np.asarray(np.clip((numbers - lowest) * scale, 0, CELLS - 1).astype(np.int64))


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
