"""How unusual one request is: its rank among reference rows that the distance was not fitted on.

The rank is a conformal p-value.
"""

from typing import NamedTuple, Self

import numpy as np
from sklearn.covariance import LedoitWolf

from serving.drift.sample import Values

SEED = 20_260_803


class Outliers(NamedTuple):
    """A Gaussian of half of the reference and the distances of the other half."""

    mean: Values
    precision: Values
    known: Values
    """float64 [n], sorted."""

    @classmethod
    def fit(cls, values: Values) -> Self:
        """Mean and shrunk covariance (Ledoit & Wolf 2004) of one half, squared Mahalanobis distances of the other."""
        rows = np.random.default_rng(SEED).permutation(values)
        first, second = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        shrunk = LedoitWolf().fit(first)
        mean, precision = np.asarray(shrunk.location_), np.asarray(shrunk.precision_)
        return cls(mean, precision, np.sort(_distances(second, mean, precision)))

    def p_values(self, values: Values) -> Values:
        """float64 [n] in (0, 1]: of requests like the reference, at most a share p has a value of at most p.

        A row with a number that is not finite is unlike every other: it gets the smallest value there is.
        """
        clean = np.isfinite(values).all(axis=1)
        distances = _distances(np.where(clean[:, None], values, 0.0), self.mean, self.precision)
        further = len(self.known) - self.known.searchsorted(np.where(clean, distances, np.inf), side="left")
        return np.asarray((1 + further) / (1 + len(self.known)))


def _distances(values: Values, mean: Values, precision: Values) -> Values:
    rows = values - mean
    return np.asarray(((rows @ precision) * rows).sum(axis=1))
