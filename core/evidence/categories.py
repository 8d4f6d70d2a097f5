"""Prediction mix and confidence: a shift of category counts becomes one Bernoulli question that `two_sample` judges.

The null is "total variation between the arms' mixes is at most the tolerance": no set of categories gains more than
it. So for a set chosen from earlier looks, "an answer falls in the set" obeys theta_c <= theta_s + tolerance. Against a
multinomial test little is lost: nearest to a pair of mixes, the null keeps the proportions inside the set that gains
and inside the set that loses, so their likelihoods cancel; only categories that do neither would separate the two.
"""

from collections.abc import Sequence

import numpy as np


def gaining(stable: Sequence[int], candidate: Sequence[int], tolerance: float) -> tuple[int, ...]:
    """Indices of the categories whose joint gain in the candidate stands out most, from earlier counts.

    The best set orders categories by the ratio of their shares (Neyman & Pearson); of its beginnings the one with the
    largest gain beyond the tolerance in standard deviations of one answer is taken. Without counts: the first category.
    """
    s, c = (np.asarray(part, float) + 0.5 for part in (stable, candidate))
    s, c = s / s.sum(), c / c.sum()
    order = np.argsort(-c / s, kind="stable")[:-1]
    in_s, in_c = np.cumsum(s[order]), np.cumsum(c[order])
    middle = (in_s + in_c) / 2
    best = int(np.argmax((in_c - in_s - tolerance) / np.sqrt(middle * (1 - middle))))
    return tuple(int(i) for i in order[: best + 1])
