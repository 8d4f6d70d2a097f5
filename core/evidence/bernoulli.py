"""Likelihood ratios of Bernoulli counts against the nearest point of a null: the formula under all evidence here.

`two_sample` multiplies these ratios over looks; `one_sample` does the same against a fixed limit.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

EDGE = 1e-12
"""Rates are kept this far from 0 and 1, so that every logarithm is finite."""


def kl(p: Array, q: Array) -> Array:
    """Kullback-Leibler divergence of Bernoulli(q) from Bernoulli(p), nats; both strictly between 0 and 1."""
    return np.asarray(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def nearest_null(n_s: Array, n_c: Array, theta_s: Array, theta_c: Array, margin: Array) -> Array:
    """Stable's rate x of the pair (x, x + margin) that minimises n_s KL(theta_s||x) + n_c KL(theta_c||x + margin).

    All arguments broadcast; rates strictly inside (0, 1), n_s and n_c positive, |margin| < 1. The stationary point is
    the middle root of a cubic (Miettinen & Nurminen 1985, appendix); two Newton steps remove its rounding error.
    """
    f_c = n_c / (n_s + n_c)
    f_s = 1.0 - f_c
    bad = f_s * theta_s + f_c * theta_c
    third = ((1 + f_s) * margin - 1 - bad) / 3
    linear = (f_s * (margin - 2 * theta_s) - 1) * margin + bad
    q = third * (third * third - linear / 2) + f_s * theta_s * margin * (1 - margin) / 2
    p = np.copysign(np.sqrt(np.maximum(third * third - linear / 3, EDGE**2)), q)
    angle = np.arccos(np.maximum(np.minimum(q / (p * p * p), 1.0), -1.0))
    x: Array = 2 * p * np.cos((np.pi + angle) / 3) - third
    low, high = np.maximum(0.0, -margin), np.minimum(1.0, 1 - margin)
    x = np.maximum(np.minimum(x, high - EDGE), low + EDGE)
    for _ in range(2):
        step = _newton(f_s, f_c, theta_s, theta_c, x, x + margin)
        x = np.maximum(np.minimum(x - step, (x + high) / 2), (x + low) / 2)
    return np.asarray(x)


def _newton(f_s: Array, f_c: Array, theta_s: Array, theta_c: Array, x: Array, y: Array) -> Array:
    """First over second derivative of f_s KL(theta_s||x) + f_c KL(theta_c||y) along dx = dy."""
    inner_x, inner_y = 1 / (x - x * x), 1 / (y - y * y)
    a, b = (x - theta_s) * inner_x, (y - theta_c) * inner_y
    curve = f_s * inner_x * (1 - a * (1 - 2 * x)) + f_c * inner_y * (1 - b * (1 - 2 * y))
    return np.asarray((f_s * a + f_c * b) / curve)


def log_ratio(n: Array, k: Array, alternative: Array, null: Array) -> Array:
    """log of the likelihood ratio of k bad in n at rate `alternative` over rate `null`."""
    return np.asarray(k * np.log(alternative / null) + (n - k) * np.log((1 - alternative) / (1 - null)))


def log_e(n_s: Array, k_s: Array, n_c: Array, k_c: Array, theta_s: Array, theta_c: Array, margin: Array) -> Array:
    """log E of one look: likelihood of both arms' counts at (theta_s, theta_c) over that at the nearest null point.

    For a pair fixed before the look and outside a closed convex null, E has expectation at most 1 under the null
    (Turner, Ly & Gruenwald 2022; for convex nulls Turner & Gruenwald 2023). Proof: with (x, y) the nearest point, the
    log of the expectation is n_s log(1 + a (t_s - x)) + n_c log(1 + b (t_c - y)), a = (theta_s - x) / (x (1 - x)) and b
    alike; it is at most n_s a (t_s - x) + n_c b (t_c - y), minus the derivative of the divergence towards (t_s, t_c),
    which is not positive when (t_s, t_c) lies in the null. By the concavity of log only the means of t_s and of t_c in
    the look matter: rates may differ from request to request. A look without one of the arms says nothing: 0.
    """
    both = (n_s > 0) & (n_c > 0)
    x = nearest_null(np.where(both, n_s, 1.0), np.where(both, n_c, 1.0), theta_s, theta_c, margin)
    ratio = log_ratio(n_s, k_s, theta_s, x) + log_ratio(n_c, k_c, theta_c, x + margin)
    return np.where(both, ratio, 0.0)


def kl_inf(theta_s: Array, theta_c: Array, margin: Array, share: Array) -> Array:
    """Least divergence per request, nats, of the true pair from the null, when the candidate gets `share` of requests.

    No sequential test of level alpha needs fewer than about log(1/alpha) / kl_inf requests on average.
    Positive on both sides of theta_c = theta_s + margin.
    """
    x = nearest_null(1 - share, share, theta_s, theta_c, margin)
    return (1 - share) * kl(theta_s, x) + share * kl(theta_c, x + margin)
