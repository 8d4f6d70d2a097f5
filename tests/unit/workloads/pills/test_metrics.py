import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from workloads.pills import metrics


@pytest.fixture
def answers():
    """Logits [300, 5] and targets of a classifier that is right about half of the time."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 5, 300)
    logits = rng.normal(size=(300, 5)) + 1.5 * np.eye(5)[targets]
    return logits, targets


def test_auc_is_that_of_scikit_learn(answers):
    logits, targets = answers
    found = metrics.softmax(logits)
    assert metrics.macro_auc(found, targets) == pytest.approx(roc_auc_score(targets, found, multi_class="ovr"))


def test_auc_counts_ties_half_and_leaves_out_absent_classes():
    scores = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    assert metrics.macro_auc(scores, np.array([0, 1])) == 0.5
    assert np.isnan(metrics.macro_auc(scores, np.array([0, 0])))


def test_per_class_is_that_of_scikit_learn(answers):
    logits, targets = answers
    found = logits.argmax(axis=1)
    table = metrics.confusion(found, targets, 5)
    for ours, theirs in zip(metrics.per_class(table), (precision_score, recall_score, f1_score), strict=True):
        assert ours == pytest.approx(theirs(targets, found, average=None))


def test_a_class_that_never_occurs_has_zeros_not_nan():
    table = metrics.confusion(np.array([0, 0]), np.array([0, 0]), 2)
    assert [values[1] for values in metrics.per_class(table)] == [0, 0, 0]


def test_ranks_count_ties_against_the_answer():
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 2.0]])
    assert metrics.ranks(scores, np.array([0, 0, 0])).tolist() == [1, 2, 3]
    assert metrics.top_k(scores, np.array([0, 0, 0]), 2) == pytest.approx(2 / 3)
    assert metrics.mean_average_precision(scores, np.array([0, 0, 0])) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_calibration_error_is_the_gap_that_was_built_in():
    right = np.arange(1000) % 10 < 7
    assert metrics.calibration_error(np.full(1000, 0.9), right) == pytest.approx(0.2)
    assert metrics.calibration_error(np.full(1000, 0.7), right) == pytest.approx(0.0)


def test_reliability_has_every_row_in_one_bin(answers):
    logits, targets = answers
    found = metrics.softmax(logits)
    mean, accuracy, rows = metrics.reliability(found.max(axis=1), found.argmax(axis=1) == targets)
    assert rows.sum() == 300
    assert np.isnan(mean[rows == 0]).all()
    assert (accuracy[rows > 0] <= 1).all()


def test_intervals_are_wider_when_rows_come_in_groups():
    values = np.repeat(np.arange(20) % 4 > 0, 10).astype(float)
    alone = metrics.bootstrap(values, np.arange(200))
    grouped = metrics.bootstrap(values, np.repeat(np.arange(20), 10))
    assert alone.value == grouped.value == 0.75
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        found = metrics.bootstrap((rng.random(150) < 0.8).astype(float), np.arange(150), draws=400, seed=seed)
        covered += found.low <= 0.8 <= found.high
    assert covered >= 180


def test_no_error_in_a_few_groups_is_no_certainty():
    found = metrics.bootstrap(np.ones(20), np.arange(20))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.832, abs=0.001)  # Clopper-Pearson, 20 of 20
    assert metrics.bootstrap(np.zeros(20), np.arange(20)).high == pytest.approx(0.168, abs=0.001)


def test_sums_of_batches_add_up_to_those_of_all_rows():
    outputs, targets = torch.randn(50, 7), torch.randint(0, 7, (50,))
    whole = metrics.sums(outputs, targets)
    parts = [metrics.sums(outputs[a : a + 20], targets[a : a + 20]) for a in (0, 20, 40)]
    for name, value in whole.items():
        assert sum(part[name] for part in parts).item() == pytest.approx(value.item())
    assert whole["score"] == (outputs.argmax(1) == targets).sum()
    assert whole["score"] <= whole["top5"] <= 50
