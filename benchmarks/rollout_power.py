"""Requests until a harmful candidate is rolled back, against the information bound, and power within a budget."""

from typing import NamedTuple

import numpy as np

from core.evidence import bernoulli, mixture, strata, two_sample
from core.evidence.bernoulli import Array
from core.evidence.two_sample import Look

BASES = (0.005, 0.02, 0.05, 0.10, 0.30)
HARMS = (0.01, 0.02, 0.05, 0.10, 0.20)
MARGIN = 0.01
LOOKS_TO_BOUND = 60
"""Looks in the time of the bound; none has fewer than `strata.SMALLEST` requests, because the judge pools those."""
HORIZON = 8
"""Runs are cut after this many bounds and counted as that long."""


class Case(NamedTuple):
    """One cell of the table."""

    base: float
    harm: float
    share: float


class Delay(NamedTuple):
    """What a case needed."""

    bound: float
    """log(1/alpha) / KL_inf, requests of both arms."""
    requests: Array
    """Requests until rollback, one per run; infinite where the horizon was reached."""

    @property
    def ratio(self) -> float:
        """Mean requests over the bound."""
        return float(np.minimum(self.requests, HORIZON * self.bound).mean() / self.bound)


def bound(case: Case, alpha: float) -> float:
    """log(1/alpha) / KL_inf, requests of both arms together."""
    rates = [np.array(value) for value in (case.base, case.base + MARGIN + case.harm, MARGIN, case.share)]
    return float(np.log(1 / alpha) / bernoulli.kl_inf(*rates))


def delay(case: Case, alpha: float, runs: int, rng: np.random.Generator) -> Delay:
    """Requests until the harm process of one metric reaches 1/alpha, harm from the first request, no history."""
    limit = bound(case, alpha)
    size = int(np.ceil(max(limit / LOOKS_TO_BOUND, strata.SMALLEST)))
    needed, margin = np.full(runs, np.inf), np.full(runs, MARGIN)
    running = np.arange(runs)
    evidence, seen = two_sample.start((runs,)), np.zeros((2, runs))
    for sent in range(size, int(HORIZON * limit) + size, size):
        look = _draw(case, size, len(running), rng)
        evidence = two_sample.update(evidence, margin[: len(running)], *seen, look)
        seen = seen + np.stack([look.n_s, look.k_s])
        hit = mixture.mean(evidence.harm) >= np.log(1 / alpha)
        needed[running[hit]] = sent
        running, seen = running[~hit], seen[:, ~hit]
        evidence = two_sample.Evidence(*(part[~hit] for part in evidence))
        if not len(running):
            break
    return Delay(limit, needed)


def _draw(case: Case, size: int, runs: int, rng: np.random.Generator) -> Look:
    n_c = rng.binomial(size, case.share, runs)
    n_s = size - n_c
    k_s, k_c = rng.binomial(n_s, case.base), rng.binomial(n_c, case.base + MARGIN + case.harm)
    return Look(*(part.astype(float) for part in (n_s, k_s, n_c, k_c)))


def table(share: float, alpha: float, runs: int, rng: np.random.Generator) -> dict[Case, Delay]:
    """Delays of every base rate and harm at one share."""
    return {(case := Case(b, h, share)): delay(case, alpha, runs, rng) for b in BASES for h in HARMS}
