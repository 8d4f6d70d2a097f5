"""The likelihood ratio of one look: nearest null point, expectation under the null, extremes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from core.evidence import bernoulli

rates = st.floats(1e-4, 0.99)
parts = st.floats(1e-3, 0.99)
sizes = st.integers(1, 12)


def arrays(*values: float) -> list[np.ndarray]:
    return [np.array(float(value)) for value in values]


def poisson_binomial(chances: list[float]) -> np.ndarray:
    """Distribution of the number of bad answers when each request has its own rate."""
    pmf = np.array([1.0])
    for chance in chances:
        pmf = np.convolve(pmf, [1 - chance, chance])
    return pmf


def expectation(pmf_s: np.ndarray, pmf_c: np.ndarray, theta_s: float, theta_c: float, margin: float) -> float:
    """Exact mean of E over all outcomes of one look."""
    n_s, n_c = len(pmf_s) - 1, len(pmf_c) - 1
    k_s, k_c = np.meshgrid(np.arange(n_s + 1.0), np.arange(n_c + 1.0), indexing="ij")
    log_e = bernoulli.log_e(np.array(float(n_s)), k_s, np.array(float(n_c)), k_c, *arrays(theta_s, theta_c, margin))
    return float((np.exp(log_e) * np.outer(pmf_s, pmf_c)).sum())


@settings(deadline=None, max_examples=200)
@given(n_s=sizes, n_c=sizes, a=rates, gap=parts, beyond=parts, x=rates, y=rates, harmful=st.booleans())
def test_mean_of_e_is_at_most_1_everywhere_in_the_null(n_s, n_c, a, gap, beyond, x, y, harmful) -> None:
    """Both nulls, candidate at most / at least margin above stable, and any alternative on the other side."""
    margin = gap * (1 - a)
    limit = a + margin
    b = limit + beyond * (1 - limit) if harmful else limit * (1 - beyond)
    x = x if harmful else x * (1 - margin)
    null_c = min(y, x + margin) if harmful else max(y, x + margin)
    pmf_s, pmf_c = (binom.pmf(np.arange(n + 1), n, rate) for n, rate in ((n_s, x), (n_c, null_c)))
    assert expectation(pmf_s, pmf_c, a, b, margin) <= 1 + 1e-9


def test_mean_of_e_is_1_at_the_nearest_null_point_and_above_1_beyond_the_null() -> None:
    near = float(bernoulli.nearest_null(*arrays(9, 3, 0.1, 0.5, 0.05)))
    at = [binom.pmf(np.arange(n + 1), n, rate) for n, rate in ((9, near), (3, near + 0.05))]
    beyond = [binom.pmf(np.arange(n + 1), n, rate) for n, rate in ((9, 0.1), (3, 0.5))]
    assert expectation(*at, 0.1, 0.5, 0.05) == pytest.approx(1, abs=1e-9)
    assert expectation(*beyond, 0.1, 0.5, 0.05) > 1.5


@settings(deadline=None, max_examples=100)
@given(stable=st.lists(st.floats(0, 0.6), min_size=1, max_size=6), shares=st.lists(st.floats(0, 1), min_size=4))
def test_rates_that_change_inside_a_look_are_covered_when_their_means_obey_the_null(stable, shares) -> None:
    margin = 0.1
    mean = float(np.mean(stable)) + margin
    spread = min(mean, 1 - mean) * (np.array(shares[:8]) - np.mean(shares[:8]))
    candidate = (mean + spread).tolist()
    assert expectation(poisson_binomial(stable), poisson_binomial(candidate), 0.05, 0.4, margin) <= 1 + 1e-9


@settings(deadline=None, max_examples=100)
@given(a=rates, gap=parts, beyond=parts, share=st.floats(1e-3, 0.999))
def test_nearest_null_minimises_the_divergence(a, gap, beyond, share) -> None:
    margin = gap * (1 - a)
    b = a + margin + beyond * (1 - a - margin)

    def divergence(x: float) -> float:
        return float((1 - share) * bernoulli.kl(*arrays(a, x)) + share * bernoulli.kl(*arrays(b, x + margin)))

    x = float(bernoulli.nearest_null(*arrays(1 - share, share, a, b, margin)))
    best = minimize_scalar(divergence, bounds=(1e-9, 1 - margin - 1e-9), method="bounded", options={"xatol": 1e-12})
    assert divergence(x) <= best.fun + 1e-9


def test_nearest_null_is_stationary_to_rounding_over_the_whole_range() -> None:
    rng = np.random.default_rng(0)
    a, margin = 10 ** rng.uniform(-5, -0.2, 100_000), 10 ** rng.uniform(-4, -0.5, 100_000)
    a = np.minimum(a, (1 - margin) * 0.999)
    b = np.where(rng.random(100_000) < 0.5, a + margin + (1 - a - margin) * rng.uniform(0.001, 0.9, 100_000), a / 4)
    share = 1 / (1 + 10 ** rng.uniform(-4, 4, 100_000))
    x = bernoulli.nearest_null(1 - share, share, a, b, margin)
    slope = (1 - share) * (x - a) / (x * (1 - x)) + share * (x + margin - b) / ((x + margin) * (1 - x - margin))
    assert np.abs(slope).max() < 1e-12


@pytest.mark.parametrize(("n_s", "n_c"), [(0, 50), (50, 0), (0, 0)])
def test_a_look_without_one_arm_says_nothing(n_s: int, n_c: int) -> None:
    assert float(bernoulli.log_e(*arrays(n_s, n_s, n_c, n_c, 0.1, 0.5, 0.05))) == 0


@pytest.mark.parametrize(("k_s", "k_c"), [(0, 0), (0, 1_000_000), (1_000_000, 0), (1_000_000, 1_000_000)])
def test_extreme_counts_stay_finite_and_point_the_right_way(k_s: int, k_c: int) -> None:
    value = float(bernoulli.log_e(*arrays(1_000_000, k_s, 1_000_000, k_c, 0.01, 0.5, 0.01)))
    assert math.isfinite(value)
    if k_s != k_c:
        assert (value > 0) == (k_c > k_s)


def test_divergence_from_the_null_is_0_at_the_margin_and_grows_on_both_sides() -> None:
    share, margin = np.array(0.1), np.array(0.01)
    rates_c = (np.array(rate) for rate in (0.06, 0.08, 0.05, 0.2))
    at, harm, good, worse = (float(bernoulli.kl_inf(np.array(0.05), rate, margin, share)) for rate in rates_c)
    assert at == pytest.approx(0, abs=1e-12)
    assert 0 < good < worse
    assert 0 < harm < worse
