"""Monitors against a fixed limit: expectation, run length, detection, harmful drift."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from core.errors import UserError
from core.evidence import mixture, one_sample
from core.evidence.one_sample import Limit, Monitor, MonitorState
from core.verdict import Outcome

ACCURACY = Limit(name="wrong answers", rate=0.15)
SLOW = Limit(name="slower than p95", rate=0.05)
DETECTOR = Monitor(limits=(ACCURACY, SLOW), alpha=1 / 1000)


@settings(deadline=None)
@given(n=st.integers(1, 40), limit=st.floats(0.001, 0.9), share=st.floats(1e-6, 1))
def test_mean_of_e_is_at_most_1_up_to_the_limit(n: int, limit: float, share: float) -> None:
    k = np.arange(n + 1.0)
    e = np.exp(one_sample.log_e(np.full(n + 1, float(n)), k, np.full(n + 1, limit)))
    assert (binom.pmf(k, n, share * limit) @ e <= 1 + 1e-9).all()


def run_lengths(rate: float, limit: float, alpha: float, runs: int, cut: int) -> np.ndarray:
    """Updates until the alarm, cut at `cut`."""
    rng = np.random.default_rng(8)
    log_r, length = np.full((runs, len(one_sample.EXCESSES)), mixture.NOTHING), np.full(runs, float(cut))
    for update in range(1, cut):
        ratio = one_sample.log_e(np.full(runs, 20.0), rng.binomial(20, rate, runs).astype(float), np.full(runs, limit))
        log_r = one_sample.advance(log_r, ratio, True)
        alarm = (mixture.mean(log_r) >= np.log(1 / alpha)) & (length == cut)
        length[alarm] = update
    return length


def test_average_run_length_exactly_at_the_limit_is_at_least_one_over_alpha() -> None:
    """Cut runs can only make the average look shorter."""
    assert run_lengths(0.15, 0.15, 1 / 100, runs=200, cut=1500).mean() >= 100


def test_a_breach_is_found_soon() -> None:
    assert run_lengths(0.30, 0.15, 1 / 1000, runs=200, cut=300).mean() < 15


def test_a_breach_after_good_times_is_found_as_soon_as_one_at_the_start() -> None:
    rng, state = np.random.default_rng(9), one_sample.begin(DETECTOR)
    for _ in range(500):
        state = one_sample.observe(DETECTOR, state, {"wrong answers": (50, int(rng.binomial(50, 0.02)))})
    assert one_sample.judge(DETECTOR, state).outcome is Outcome.INCONCLUSIVE
    for _ in range(8):
        state = one_sample.observe(DETECTOR, state, {"wrong answers": (50, int(rng.binomial(50, 0.4)))})
    verdict = one_sample.judge(DETECTOR, state)
    assert verdict.outcome is Outcome.FAIL
    assert "wrong answers" in verdict.reason


def test_the_evidence_is_the_weighted_mean_of_the_limits() -> None:
    counts = {"wrong answers": (50, 30), "slower than p95": (50, 1)}
    state = one_sample.observe(DETECTOR, one_sample.begin(DETECTOR), counts)
    each = np.exp(mixture.mean(np.array(state.log_r)))
    assert one_sample.evidence(DETECTOR, state) == pytest.approx(np.log(each.mean()))


@pytest.mark.parametrize("repeating", [True, False])
def test_json_and_empty_updates_change_nothing(repeating: bool) -> None:
    monitor = Monitor(limits=(ACCURACY, SLOW), alpha=0.01, repeating=repeating)
    state = one_sample.begin(monitor)
    for counts in ({"wrong answers": (30, 9)}, {"slower than p95": (1000, 1000)}, {"wrong answers": (10**9, 0)}):
        state = one_sample.observe(monitor, MonitorState.model_validate_json(state.model_dump_json()), counts)
        assert one_sample.observe(monitor, state, {}) == state
        assert one_sample.observe(monitor, state, {"wrong answers": (0, 0)}) == state
        assert np.isfinite(state.log_r).all()


def test_harmful_drift_is_quiet_below_the_tolerated_error_and_found_above() -> None:
    """7 % true error where about 8 % are tolerated, then 15 %."""
    limit = one_sample.tolerated(20_000, 1_200, 0.005, 0.015)
    assert 0.075 < limit < 0.085
    monitor = Monitor(limits=(Limit(name="error", rate=limit),), alpha=0.005, repeating=False)
    rng, alarms = np.random.default_rng(10), 0
    for _ in range(20):
        state = one_sample.begin(monitor)
        for _ in range(100):
            state = one_sample.observe(monitor, state, {"error": (200, int(rng.binomial(200, 0.07)))})
            alarms += one_sample.judge(monitor, state).outcome is Outcome.FAIL
    assert alarms == 0
    state, labels = one_sample.begin(monitor), 0
    while one_sample.judge(monitor, state).outcome is not Outcome.FAIL:
        state, labels = one_sample.observe(monitor, state, {"error": (20, int(rng.binomial(20, 0.15)))}), labels + 20
    assert labels <= 1000


def test_the_upper_bound_of_a_reference_is_rarely_below_its_true_rate() -> None:
    k = np.random.default_rng(11).binomial(500, 0.1, 400)
    below = np.mean([one_sample.tolerated(500, int(value), 0.05, 0.0) < 0.1 for value in k])
    assert below <= 0.05
    assert one_sample.tolerated(500, 50, 0.05, 0.0) < 0.15
    assert one_sample.tolerated(500, 500, 0.05, 0.1) < 1


def test_bad_input_is_refused() -> None:
    state = one_sample.begin(DETECTOR)
    with pytest.raises(UserError, match="did you mean 'wrong answers'"):
        one_sample.observe(DETECTOR, state, {"wrong answer": (1, 0)})
    with pytest.raises(UserError, match="no count"):
        one_sample.observe(DETECTOR, state, {"wrong answers": (1, 2)})
    with pytest.raises(UserError, match="at least one"):
        one_sample.tolerated(0, 0, 0.05, 0.0)
