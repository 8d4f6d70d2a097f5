"""The set of categories that gains: chosen from earlier counts, safe under the tolerance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.evidence import categories


def test_the_categories_that_gained_are_chosen() -> None:
    assert categories.gaining([400, 300, 200, 100], [250, 300, 200, 250], 0.05) == (3,)
    assert set(categories.gaining([700, 100, 100, 100], [400, 250, 250, 100], 0.05)) == {1, 2}


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=2, max_size=20), st.floats(0.01, 0.5))
def test_some_but_never_all_categories_are_chosen(counts: list[tuple[int, int]], tolerance: float) -> None:
    chosen = categories.gaining(*zip(*counts, strict=True), tolerance)
    assert 1 <= len(chosen) < len(counts)
    assert len(set(chosen)) == len(chosen)


@given(st.integers(2, 12), st.integers(0, 10_000))
def test_no_set_gains_more_than_the_total_variation(size: int, seed: int) -> None:
    """Why the tolerance on the mix is a margin for every set."""
    rng = np.random.default_rng(seed)
    s, c = rng.dirichlet(np.ones(size), 2)
    chosen = list(categories.gaining((1000 * s).astype(int).tolist(), (1000 * c).astype(int).tolist(), 0.01))
    assert c[chosen].sum() - s[chosen].sum() <= np.abs(c - s).sum() / 2 + 1e-12


def test_without_counts_the_choice_is_fixed() -> None:
    assert categories.gaining([0, 0, 0], [0, 0, 0], 0.05) == pytest.approx((0,))
