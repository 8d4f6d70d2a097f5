"""Classifier two-sample test: if a classifier can tell window from reference on rows it has not seen, they differ.

Logistic regression on standardised columns and their squares (noise moves no mean), trained on one half, judged on the
other by a binomial test of its balanced choice (Lopez-Paz & Oquab 2017).
"""

from typing import NamedTuple, Self

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression

from serving.drift.measure import Measure
from serving.drift.sample import Classes, Values

SEED = 20_260_802


class Classifier(NamedTuple):
    """A reference."""

    values: Values

    @classmethod
    def fit(cls, values: Values, predictions: Classes, classes: int) -> Self:
        """Keep the reference [n, k]."""
        return cls(values)

    def measure(self, values: Values, predictions: Classes) -> Measure:
        """Right answers on equally many unseen rows of both; effect: twice the excess over a half."""
        rng = np.random.default_rng(SEED)
        size = min(len(values), len(self.values))
        old, new = (rng.permutation(part)[:size] for part in (self.values, values))
        half = size // 2
        train, test = np.vstack([old[:half], new[:half]]), np.vstack([old[half:], new[half:]])
        mean, spread = train.mean(axis=0), train.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        truth = np.repeat([0, 1], half)
        model = LogisticRegression(C=0.01, max_iter=200).fit(_squared((train - mean) / spread), truth)
        right = model.predict(_squared((test - mean) / spread)) == np.repeat([0, 1], size - half)
        share = float(right.mean())
        p_value = float(stats.binomtest(int(right.sum()), len(right), 0.5, alternative="greater").pvalue)
        weights = np.abs(model.coef_[0]).reshape(2, -1).max(axis=0)
        return Measure(share, p_value, float(np.clip(2 * share - 1, 0, 1)), weights / max(weights.sum(), 1e-12))


def _squared(rows: Values) -> Values:
    return np.hstack([rows, np.minimum(rows**2, 9.0)])
