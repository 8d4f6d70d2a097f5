import numpy as np
import pytest

from components.export.calibration import LEAST_COVERAGE, abstain_below, softmax, temperature


def drawn(rows, classes=6, seed=0):
    """Logits whose softmax is the truth, and targets drawn from it."""
    rng = np.random.default_rng(seed)
    logits = (2 * rng.normal(size=(rows, classes))).astype(np.float32)
    odds = softmax(logits).astype(float)
    return logits, np.array([rng.choice(classes, p=row / row.sum()) for row in odds])


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_scale(scale):
    logits, targets = drawn(6000)
    assert temperature(logits * scale, targets) == pytest.approx(scale, rel=0.06)


def test_a_few_right_rows_do_not_make_the_model_certain():
    logits = np.eye(4, dtype=np.float32)[np.arange(8) % 4] * 6
    few = softmax(logits / temperature(logits, np.arange(8) % 4)).max()
    assert few == pytest.approx(1 - 0.75 / 10, abs=0.01)  # 1 - (3/4) / (8 + 2)


def test_without_rows_the_logits_stay_as_they_are():
    assert temperature(np.empty((0, 3), np.float32), np.empty(0, np.int64)) == 1.0


def test_answers_above_the_threshold_are_right_as_often_as_wanted():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 4000).astype(np.float32)
    right = rng.random(4000) < confidence
    limit = abstain_below(confidence, right, 0.75)
    answered = confidence >= limit
    assert right[answered].mean() == pytest.approx(0.75, abs=0.01)
    assert limit == pytest.approx(0.5, abs=0.05)  # the mean of 0.5 to 1 is 0.75


def test_what_is_less_sure_than_anything_right_is_flagged():
    confidence = np.array([0.9, 0.8, 0.7, 0.2], np.float32)
    right = np.array([True, True, True, False])
    assert abstain_below(confidence, right, 0.5) == pytest.approx(0.7)


def test_a_bad_model_still_answers_half():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0, 1, 1000).astype(np.float32)
    right = rng.random(1000) < 0.3
    assert (confidence >= abstain_below(confidence, right, 0.99)).mean() == pytest.approx(LEAST_COVERAGE, abs=0.01)


def test_without_a_right_row_nothing_is_known():
    assert abstain_below(np.array([0.5], np.float32), np.array([False]), 0.9) == 0.0
