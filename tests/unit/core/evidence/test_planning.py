"""What a rollout can learn at its traffic."""

import math

import pytest

from core.evidence import planning


def test_a_larger_harm_a_larger_share_and_a_larger_error_need_fewer_requests() -> None:
    base = planning.expected_requests(0.02, 0.05, 0.01, 0.1, 0.01)
    assert planning.expected_requests(0.02, 0.10, 0.01, 0.1, 0.01) < base
    assert planning.expected_requests(0.02, 0.05, 0.01, 0.3, 0.01) < base
    assert planning.expected_requests(0.02, 0.05, 0.01, 0.1, 0.05) < base
    assert 1_000 < base < 50_000


@pytest.mark.parametrize(("theta_c", "share"), [(0.03, 0.1), (0.05, 0.0), (0.05, 1.0)])
def test_nothing_can_be_learnt_at_the_margin_or_with_one_arm(theta_c: float, share: float) -> None:
    assert math.isinf(planning.expected_requests(0.02, theta_c, 0.01, share, 0.01))


def test_the_smallest_harm_needs_just_the_requests_there_are() -> None:
    harm = planning.smallest_harm(0.02, 0.01, 0.1, 20_000, 0.01)
    assert planning.expected_requests(0.02, 0.03 + harm, 0.01, 0.1, 0.01) == pytest.approx(20_000, rel=1e-3)


def test_no_harm_is_small_enough_for_no_traffic() -> None:
    assert math.isinf(planning.smallest_harm(0.02, 0.01, 0.1, 5, 0.01))
    assert math.isinf(planning.smallest_harm(0.98, 0.05, 0.1, 1e6, 0.01))


def test_rates_of_0_and_1_are_planned_for() -> None:
    assert math.isfinite(planning.expected_requests(0.0, 1.0, 0.01, 0.1, 0.01))
