"""Intervals that cover the truth at all looks at once."""

import numpy as np
import pytest

from core.evidence import confidence
from core.evidence.confidence import Interval, Sums
from core.evidence.two_sample import Look

ALPHA, RUNS = 0.05, 600


def misses(base: float, excess: float, swing: float) -> tuple[float, float, Sums]:
    """Share of runs whose interval of the candidate's rate, and of the excess, ever missed the mean in force so far."""
    rng = np.random.default_rng(7)
    sums, truth = confidence.empty((RUNS,)), np.zeros(4)
    missed = np.zeros((2, RUNS), bool)
    for i in range(300):
        rate, n_c = base * (1 + swing * np.sin(i / 30)), 10 if i % 100 < 50 else 50
        counts = (np.full(RUNS, 100 - n_c), rng.binomial(100 - n_c, rate, RUNS))
        counts = (*counts, np.full(RUNS, n_c), rng.binomial(n_c, rate + excess, RUNS))
        sums = confidence.add(sums, Look(*(part.astype(float) for part in counts)))
        pairs = (100 - n_c) * n_c / 100
        truth += n_c, n_c * (rate + excess), pairs, pairs * excess
        missed[0] |= outside(confidence.rate(sums.n_c, sums.k_c, sums.v_c, ALPHA), truth[1] / truth[0])
        missed[1] |= outside(confidence.excess(sums, ALPHA), truth[3] / truth[2])
    return float(missed[0].mean()), float(missed[1].mean()), sums


def outside(interval: Interval, truth: float) -> np.ndarray:
    return (interval.low > truth + 1e-12) | (interval.high < truth - 1e-12)


@pytest.mark.parametrize(("base", "excess", "swing"), [(0.02, 0.0, 0.8), (0.3, 0.1, 0.5), (0.002, 0.05, 0.0)])
def test_intervals_cover_at_all_looks_while_rates_and_shares_change(base: float, excess: float, swing: float) -> None:
    rate, difference, _ = misses(base, excess, swing)
    assert rate <= ALPHA
    assert difference <= ALPHA


def test_intervals_are_at_most_2_3_times_as_wide_as_one_of_a_single_look() -> None:
    sums = misses(0.02, 0.0, 0.0)[2]
    interval = confidence.rate(sums.n_c, sums.k_c, sums.v_c, ALPHA)
    assert ((interval.high - interval.low) < 4.6 * 1.96 * np.sqrt(0.02 * 0.98 / 9000)).all()


def test_nothing_observed_is_the_whole_range() -> None:
    sums = confidence.empty(())
    assert [float(part) for part in confidence.rate(sums.n_c, sums.k_c, sums.v_c, ALPHA)] == [0, 0.5, 1]
    assert [float(part) for part in confidence.excess(sums, ALPHA)] == [-1, 0, 1]


def test_one_arm_alone_moves_its_rate_but_not_the_difference() -> None:
    sums = confidence.add(confidence.empty(()), Look(*(np.array(float(value)) for value in (0, 0, 500, 5))))
    assert float(confidence.rate(sums.n_c, sums.k_c, sums.v_c, ALPHA).high) < 0.1
    assert float(confidence.excess(sums, ALPHA).high) == 1


def test_all_bad_and_all_good_give_intervals_at_the_ends() -> None:
    for k, width in ((0, 0.003), (10_000, 0.012)):
        sums = confidence.empty(())
        for _ in range(10):
            sums = confidence.add(sums, Look(*(np.array(float(value)) for value in (0, 0, 1000, k / 10))))
        low, middle, high = confidence.rate(sums.n_c, sums.k_c, sums.v_c, ALPHA)
        assert float(middle) == k / 10_000
        assert float(high - low) < width
