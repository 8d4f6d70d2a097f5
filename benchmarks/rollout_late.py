"""Harm that begins late: requests from its begin to rollback, with the late stakes and without them."""

import numpy as np

from benchmarks.rollout_power import MARGIN, Case, bound
from core.evidence import mixture, two_sample
from core.evidence.two_sample import Evidence, Look

CASES = [(Case(0.02, harm, 0.1), onset) for harm in (0.02, 0.05, 0.2) for onset in (0, 2_000, 20_000, 100_000)]
ALPHA = 0.01 / 6
LOOKS = 30
"""Looks in the time of the bound."""


def delays(case: Case, onset: int, runs: int, rng: np.random.Generator) -> tuple[float, float]:
    """Mean requests after `onset` over the bound: with late stakes, and for the plain product. Cut at 20."""
    limit = bound(case, ALPHA)
    size = int(max(10, limit / LOOKS))
    evidence, plain, seen = two_sample.start((runs,)), np.zeros((runs, two_sample.HARMS)), np.zeros((2, runs))
    margin, needed = np.full(runs, MARGIN), np.full((2, runs), 20 * limit)
    for sent in range(0, int(onset + 20 * limit), size):
        excess = MARGIN + case.harm if sent >= onset else 0.0
        n_c = rng.binomial(size, case.share, runs)
        counts = (size - n_c, rng.binomial(size - n_c, case.base), n_c, rng.binomial(n_c, case.base + excess))
        look = Look(*(part.astype(float) for part in counts))
        plain = _plain(plain, evidence, margin, seen, look)
        evidence = two_sample.update(evidence, margin, *seen, look)
        seen = seen + np.stack([look.n_s, look.k_s])
        reached = np.stack([mixture.mean(part) >= np.log(1 / ALPHA) for part in (evidence.harm, plain)])
        needed = np.where(reached & (sent >= onset), np.minimum(needed, sent + size - onset), needed)
        if (needed < 20 * limit).all():
            break
    return float(needed[0].mean() / limit), float(needed[1].mean() / limit)


def _plain(plain: np.ndarray, evidence: Evidence, margin: np.ndarray, seen: np.ndarray, look: Look) -> np.ndarray:
    """The product without late stakes: an update from nothing staked and evidence 1 leaves the ratio alone."""
    fresh = Evidence(np.full_like(evidence.pairs, 1e300), np.zeros_like(evidence.harm), evidence.fit)
    return plain + two_sample.update(fresh, margin, *seen, look).harm


def report(runs: int, rng: np.random.Generator) -> None:
    """Prints the table."""
    print("\nHarm that begins late (base 2 %, share 10 %): mean requests from its begin / bound\n")
    print("| harm | begins after | late stakes | plain product |\n|---|---|---|---|")
    for case, onset in CASES:
        late, plain = delays(case, onset, runs, rng)
        print(f"| +{case.harm:.0%} | {onset:,} | {late:.2f} | {plain:.2f}{' or more' if plain >= 19 else ''} |")
