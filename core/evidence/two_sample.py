"""Is the candidate worse than stable by more than a margin, or shown not to be? Two e-processes on the same counts.

`harm` gathers evidence against theta_c <= theta_s + margin (roll back), `fit` against theta_c >= theta_s + margin
(promote). Each look is one stratum: rates may change from look to look, and so may the shares, without confounding.
The functions work on arrays with any leading axes: the judge has one axis of metrics, a simulation adds one of runs.
"""

from typing import NamedTuple

import numpy as np

from core.evidence import bernoulli, mixture
from core.evidence.bernoulli import Array

HARMS = 12
"""Sizes of harm averaged over; 10 to 24 need the same number of requests within 2 %."""

SMALLEST, LARGEST = 0.004, 0.6
"""Excess over the margin of the smallest harm (or half the margin, if that is smaller) and of the largest."""

POWERS = np.linspace(1, 0, HARMS)
"""Places of the harms between LARGEST (0) and the smallest (1), on a logarithmic scale."""

FITS = np.array([0.5, 0.75, 1.0, 1.5, 2.5])
"""Distances below theta_s + margin of the alternatives for promotion, in margins; 1 is a candidate equal to stable."""

PRIOR_BAD, PRIOR_ALL = 0.5, 5.0
"""Pseudo-counts of stable's estimate: bad events are rare; 1 to 10 pseudo-requests need the same within 2 %."""


class Look(NamedTuple):
    """Counts of one look: requests and bad ones of stable, requests and bad ones of the candidate."""

    n_s: Array
    k_s: Array
    n_c: Array
    k_c: Array


class Evidence(NamedTuple):
    """Everything the next look needs; its size does not depend on the number of looks."""

    pairs: Array
    """Effective pairs n_s n_c / (n_s + n_c) seen so far, [...]."""
    harm: Array
    """log W per size of harm, [..., HARMS]."""
    fit: Array
    """log of the product per alternative of FITS, [..., len(FITS)]."""


def start(shape: tuple[int, ...]) -> Evidence:
    """Evidence before the first look."""
    harm = np.full((*shape, HARMS), np.log(mixture.FIRST))
    return Evidence(np.zeros(shape), harm, np.zeros((*shape, len(FITS))))


def harms(margin: Array) -> Array:
    """Excesses over the margin that `harm` averages over, [..., HARMS], equal ratios between neighbours."""
    low = np.minimum(SMALLEST, margin / 2)[..., None]
    return np.asarray(LARGEST * (low / LARGEST) ** POWERS)


def update(evidence: Evidence, margin: Array, seen_n: Array, seen_k: Array, look: Look) -> Evidence:
    """Evidence after `look`; `seen_n` and `seen_k` are stable's requests and bad ones of all earlier looks.

    Before stable has been seen there is no estimate, so no bet: such a look changes nothing.
    """
    theta = np.clip((seen_k + PRIOR_BAD) / (seen_n + PRIOR_ALL), bernoulli.EDGE, (1 - margin) * 0.999)[..., None]
    wide = margin[..., None]
    n_s, k_s, n_c, k_c = (np.where(seen_n > 0, part, 0.0)[..., None] for part in look)
    ratio = bernoulli.log_e(n_s, k_s, n_c, k_c, theta, _candidates(theta, wide, margin), wide)
    total = n_s + n_c
    added = (n_s * n_c / np.where(total > 0, total, 1.0))[..., 0]
    stake = mixture.stake(evidence.pairs, added)[..., None]
    harm = mixture.multiply(evidence.harm, ratio[..., :HARMS], stake)
    return Evidence(evidence.pairs + added, harm, np.maximum(evidence.fit + ratio[..., HARMS:], mixture.NOTHING))


def _candidates(theta: Array, wide: Array, margin: Array) -> Array:
    """Candidate's rate of each alternative, [..., HARMS + len(FITS)]: the harms first, kept below 1 and above 0."""
    limit = theta + wide
    worse = np.minimum(limit + harms(margin), 1 - (1 - limit) / 8)
    better = np.maximum(limit - wide * FITS, theta / 4)
    return np.concatenate([worse, better], axis=-1)
