"""What a rollout can learn at its traffic: expected requests, the smallest harm it can see, what is still needed."""

import numpy as np

from core.evidence import bernoulli
from core.evidence.two_sample import LARGEST

FACTOR = 1.5
"""Expected requests over the information bound; the simulated table has a median of 1.4 (benchmarks/RESULTS.md)."""


def expected_requests(theta_s: float, theta_c: float, margin: float, share: float, alpha: float) -> float:
    """Requests of both arms until evidence at `alpha`, with the candidate at `theta_c` and at `share` of the traffic.

    Below the margin it is the expectation for promotion, above for rollback, at the margin (or share 0 or 1) infinite.
    """
    gain = growth(theta_s, theta_c, margin, share)
    return FACTOR * float(np.log(1 / alpha)) / gain if gain > 0 else float("inf")


def growth(theta_s: float, theta_c: float, margin: float, share: float) -> float:
    """Nats per request that the best test gains: KL_inf, 0 without two arms."""
    if not 0 < share < 1:
        return 0.0
    s, c = (np.clip(rate, bernoulli.EDGE, 1 - bernoulli.EDGE) for rate in (theta_s, theta_c))
    return max(float(bernoulli.kl_inf(s, c, np.array(margin), np.array(share))), 0.0)


def smallest_harm(theta_s: float, margin: float, share: float, requests: float, alpha: float) -> float:
    """Smallest excess over the margin whose expected requests fit in `requests`, 0..1; infinite if none does."""
    low, high = 0.0, min(LARGEST, 1 - theta_s - margin)
    if high <= 0 or expected_requests(theta_s, theta_s + margin + high, margin, share, alpha) > requests:
        return float("inf")
    for _ in range(40):
        middle = (low + high) / 2
        seen = expected_requests(theta_s, theta_s + margin + middle, margin, share, alpha) <= requests
        low, high = (low, middle) if seen else (middle, high)
    return high
