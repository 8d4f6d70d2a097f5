import numpy as np

from serving.triton import counts


def test_refused_items_count_by_their_code_and_nowhere_else():
    found = counts.tally(
        [b"", b"empty: no bytes", b"", b"too_large: 9 x 9: more"],
        np.array([0.95, 0.0, 0.31, 0.0]),
        np.array([False, True, True, True]),
    )
    assert found == {
        ("titrate_batches_total", "4"): 1,
        ("titrate_predictions_total", "ok"): 2,
        ("titrate_predictions_total", "empty"): 1,
        ("titrate_predictions_total", "too_large"): 1,
        ("titrate_abstentions_total", ""): 1,
        ("titrate_confidence_total", "0.9"): 1,
        ("titrate_confidence_total", "0.3"): 1,
    }


def test_certainty_belongs_to_the_last_band():
    found = counts.tally([b""], np.array([1.0]), np.array([False]))
    assert found["titrate_confidence_total", "0.9"] == 1


def test_a_request_without_items_counts_nothing():
    assert set(counts.tally([], np.array([]), np.array([], bool)).values()) <= {0}


def test_counts_of_many_executions_arrive_in_few_operations(pb_utils):
    one = counts.Counts("pills", "abc", "1")
    for _ in range(100):
        one.add([b""], np.array([0.5]), np.array([False]), 0.004)
    one.close()
    made = pb_utils.MetricFamily.made
    [ok] = made["titrate_predictions_total"]
    assert ok.value == 100
    assert {"model": "pills", "release": "abc", "model_version": "1", "outcome": "ok"}.items() <= ok.labels.items()
    assert ok.labels["process"], "or two processes would share one metric, and crash the server"
    assert len(made["titrate_execution_seconds"][0].observed) == 100
