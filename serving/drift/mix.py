"""The mix of answered classes, and what it says about the mix of true classes (black box shift estimation).

`Mix` tests the answers; `estimate` solves for the true mix under label shift with a confusion matrix (Lipton, Wang &
Smola 2018): C w = answers, with C[i, j] = P(answered i, true j) and w the ratio of new to old class shares.
"""

from typing import NamedTuple, Self

import numpy as np
from scipy import optimize, stats

from core.errors import UserError
from serving.drift.measure import Measure
from serving.drift.sample import UNKNOWN, Classes, Values


class Mix(NamedTuple):
    """How often the reference got each answer."""

    counts: Values
    """float64 [classes]"""

    @classmethod
    def fit(cls, values: Values, predictions: Classes, classes: int) -> Self:
        """Count the answers of the reference."""
        return cls(np.bincount(predictions, minlength=classes).astype(float))

    def measure(self, values: Values, predictions: Classes) -> Measure:
        """Chi-squared of homogeneity over the classes that occur; effect: total variation."""
        new = np.bincount(predictions[predictions != UNKNOWN], minlength=len(self.counts)).astype(float)
        both = np.stack([self.counts, new])
        there = both.sum(axis=0) > 0
        share = both / np.maximum(both.sum(axis=1, keepdims=True), 1)
        moved = np.abs(share[1] - share[0])
        statistic, p_value = 0.0, 1.0
        if there.sum() > 1 and new.sum() > 0:
            found = stats.chi2_contingency(both[:, there], correction=False)
            statistic, p_value = float(found.statistic), float(found.pvalue)
        return Measure(statistic, p_value, float(moved.sum() / 2), moved, by_class=True)


def estimate(confusion: Values, answers: Values) -> Values:
    """The mix of true classes [classes] in a window with the answers `answers` (counts), under label shift alone.

    `confusion` [answered, true] holds counts of a labelled reference. Least squares with shares that are not negative.
    Raises UserError when a class of the reference has no labelled sample.
    """
    old = confusion.sum(axis=0)
    if not old.all() or not answers.sum():
        place = int(np.argmin(old))
        raise UserError(
            f"class {place!r} has {old[place]:.0f} labelled samples of {old.sum():.0f}; none can be estimated"
        )
    given_true = confusion / old
    found, _ = optimize.nnls(given_true, answers / answers.sum())
    return np.asarray(found / found.sum())
