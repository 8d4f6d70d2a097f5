"""Rollouts of harmless candidates, and of candidates exactly at the margin: how often is the judge wrong?

Traffic has a daily cycle in volume and in every metric's rate, with a phase drawn per rollout; the candidate's share
rises, pauses and falls back on the way; the judge looks after every batch.
"""

from typing import NamedTuple

import numpy as np

from core.evidence import mixture, two_sample
from core.evidence.bernoulli import Array
from core.evidence.two_sample import Evidence, Look

BASES = np.array([0.002, 0.01, 0.03, 0.05, 0.10, 0.30])
MARGIN = 0.01
SHARES = (0.05, 0.10, 0.25, 0.10, 0.50, 0.25)
LOOKS_PER_SHARE = 80
LOOKS_PER_DAY = 200
VOLUME = 300.0
"""Requests per look, mean over the day."""
SWING = 0.6
"""Half the height of the daily cycle, relative, of volume and of rates."""
CHUNK = 100
"""Rollouts simulated at once: their arrays stay in the cache."""


class Crossed(NamedTuple):
    """Whether each metric's evidence ever reached its limit, bool [runs, metrics]."""

    harm: Array
    fit: Array


def equal(runs: int) -> Array:
    """Candidates as good as stable."""
    return np.zeros((runs, len(BASES)))


def one_at_margin(runs: int) -> Array:
    """Candidates at the margin in one metric, each in its turn, and as good as stable in the others."""
    return MARGIN * np.eye(len(BASES))[np.arange(runs) % len(BASES)]


def simulate(excess: Array, alpha_metric: float, alpha_promote: float, rng: np.random.Generator) -> Crossed:
    """One rollout per row of `excess` [runs, metrics]: the candidate's rate minus stable's at every moment."""
    parts = np.array_split(excess, max(1, len(excess) // CHUNK))
    chunks = [_chunk(part, alpha_metric, alpha_promote, rng) for part in parts]
    return Crossed(*(np.concatenate(part) for part in zip(*chunks, strict=True)))


def _chunk(excess: Array, alpha: float, alpha_promote: float, rng: np.random.Generator) -> Crossed:
    runs, shape = len(excess), excess.shape
    margin, phase = np.full(shape, MARGIN), rng.random((runs, 1))
    evidence, seen = two_sample.start(shape), np.zeros((2, *shape))
    crossed = Crossed(np.zeros(shape, bool), np.zeros(shape, bool))
    for i, share in enumerate(np.repeat(SHARES, LOOKS_PER_SHARE)):
        cycle = 1 + SWING * np.sin(2 * np.pi * (i / LOOKS_PER_DAY + phase))
        look = _draw(cycle, share, excess, rng)
        evidence = two_sample.update(evidence, margin, *seen, look)
        seen = seen + np.stack([look.n_s, look.k_s])
        crossed = _cross(crossed, evidence, alpha, alpha_promote)
    return crossed


def _draw(cycle: Array, share: float, excess: Array, rng: np.random.Generator) -> Look:
    total = rng.poisson(VOLUME * cycle)
    n_c = rng.binomial(total, share)
    n_s, stable = total - n_c, BASES * cycle
    k_s, k_c = rng.binomial(n_s, stable), rng.binomial(n_c, stable + excess)
    shape = stable.shape
    return Look(*(np.broadcast_to(part, shape).astype(float) for part in (n_s, k_s, n_c, k_c)))


def _cross(crossed: Crossed, evidence: Evidence, alpha: float, alpha_promote: float) -> Crossed:
    harm = mixture.mean(evidence.harm) >= np.log(1 / alpha)
    fit = mixture.mean(evidence.fit) >= np.log(1 / alpha_promote)
    return Crossed(crossed.harm | harm, crossed.fit | fit)
