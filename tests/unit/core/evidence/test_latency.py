"""Slow requests and quantiles from histogram buckets."""

import numpy as np
import pytest

from core.errors import UserError
from core.evidence import latency

BOUNDS = [50.0, 100.0, 250.0, 500.0, 1000.0]


def test_slower_than_counts_the_buckets_above_the_limit() -> None:
    assert latency.slower_than(250.0, BOUNDS, [10, 20, 30, 4, 3, 2]) == (69, 9)
    assert latency.slower_than(1000.0, BOUNDS, [0, 0, 0, 0, 0, 7]) == (7, 7)


def test_a_limit_inside_a_bucket_is_refused() -> None:
    with pytest.raises(UserError, match="bucket bound"):
        latency.slower_than(300.0, BOUNDS, [1] * 6)


@pytest.mark.parametrize(("bounds", "counts"), [(BOUNDS, [1] * 5), ([100.0, 50.0], [1] * 3), ([50.0, 50.0], [1] * 3)])
def test_a_histogram_that_is_none_is_refused(bounds: list[float], counts: list[int]) -> None:
    with pytest.raises(UserError, match="ascending"):
        latency.slower_than(50.0, bounds, counts)


@pytest.mark.parametrize(("up_to_500", "bucket"), [(0.951, 3), (0.949, 4)])
def test_the_quantile_lies_in_its_interval_at_all_looks(up_to_500: float, bucket: int) -> None:
    """The 95 % quantile is just below or just above the bound of 500 ms: either side is nearly wrong."""
    chances = [0.2, 0.3, 0.3, up_to_500 - 0.8, 0.98 - up_to_500, 0.02]
    edges = [0.0, *BOUNDS, float("inf")]
    rng, missed, runs = np.random.default_rng(12), 0, 300
    for _ in range(runs):
        path = rng.multinomial(100, chances, 30).cumsum(axis=0).tolist()
        ends = [latency.quantile(0.95, BOUNDS, counts, 0.1) for counts in path]
        missed += any(low >= edges[bucket + 1] or high <= edges[bucket] for low, high in ends)
    assert missed / runs <= 0.1


def test_the_interval_narrows_to_the_bucket_and_says_nothing_without_counts() -> None:
    assert latency.quantile(0.95, BOUNDS, [0] * 6, 0.05) == (0.0, float("inf"))
    assert latency.quantile(0.5, BOUNDS, [1000, 1000, 5000, 1000, 500, 500], 0.05) == (100.0, 250.0)
