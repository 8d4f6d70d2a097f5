import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.tuning.test_sweep_records import settings
from tuning.page import page, place
from tuning.records import Trial
from tuning.result import front, result, same_latency, with_importance
from workloads.space import Choice, Uniform


def trial(number, score, ms, state="finished", network="", rate=0.1, percent=100.0):
    return Trial(
        number=number,
        values={"train.lr": rate},
        state=state,
        score=score,
        latency_ms=ms,
        network=network or str(number),
        percent=percent,
        curve=((50.0, (score or 0) / 2), (percent, score or 0)) if score is not None else (),
    )


def test_the_front_is_what_no_other_beats_in_both():
    trials = [trial(1, 0.9, 5), trial(2, 0.8, 3), trial(3, 0.7, 4), trial(4, 0.95, 9), trial(5, 0.95, 10)]
    assert [one.number for one in front(trials)] == [2, 1, 4]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), max_size=12))
def test_no_trial_beats_one_of_the_front_and_each_other_is_beaten_or_equalled(pairs):
    trials = [trial(number, score / 10, ms) for number, (score, ms) in enumerate(pairs)]
    kept = front(trials)
    for one in trials:
        covers = [other for other in kept if other.score >= one.score and other.latency_ms <= one.latency_ms]
        assert covers, "a trial outside the front that nothing in it covers"
        if one in kept:
            assert covers == [one]


def test_only_finished_trials_can_be_the_best_or_on_the_front(tmp_path):
    trials = [trial(1, 0.5, 5), trial(2, 0.9, 1, state="stopped", percent=60), trial(3, None, None, state="failed")]
    found = result(settings(tmp_path), trials, "s")
    assert (found.best, found.front) == (1, (1,))
    assert result(settings(tmp_path), trials[1:], "s").best is None


def test_of_equal_scores_the_faster_is_the_best(tmp_path):
    assert result(settings(tmp_path), [trial(1, 0.9, 5), trial(2, 0.9, 4)], "s").best == 2


def test_trials_of_one_network_share_the_median_of_what_they_measured():
    trials = [trial(1, 0.5, 5.0, network="a"), trial(2, 0.5, 7.0, network="a"), trial(3, 0.5, 60.0, network="a")]
    assert {one.latency_ms for one in same_latency([*trials, trial(4, 0.5, 1.0, network="b")])} == {7.0, 1.0}


def test_what_decides_the_score_is_found_to_matter(tmp_path):
    sweep = settings(tmp_path)
    keys = {"train.lr": sweep.space.keys["train.lr"], "train.warmup": Uniform(low=0, high=1)}
    sweep = sweep.model_copy(update={"space": sweep.space.model_copy(update={"keys": keys})})
    trials = []
    for number in range(1, 31):
        rate, warmup = 0.01 * 100 ** (number / 31), (number * 7 % 31) / 31
        one = trial(number, number / 31, 5.0)
        trials.append(one.model_copy(update={"values": {"train.lr": rate, "train.warmup": warmup}}))
    found = with_importance(sweep, result(sweep, trials, "s"))
    assert next(iter(found.importance)) == "train.lr"
    assert found.importance["train.lr"] > 0.8
    assert found.importance_percent == 100


def test_too_few_trials_have_no_importance(tmp_path):
    sweep = settings(tmp_path)
    assert with_importance(sweep, result(sweep, [trial(1, 0.5, 5)], "s")).importance == {}


def test_a_value_has_its_place_in_its_range():
    assert place(Uniform(low=0.01, high=1, log=True), 0.1) == pytest.approx(0.5)
    assert place(Uniform(low=0, high=4), 1) == 0.25
    assert place(Choice(options=(8, 16, 32)), 16) == 0.5


def test_the_page_shows_every_trial_and_needs_nothing_else(tmp_path):
    trials = [
        trial(1, 0.5, 5),
        trial(2, 0.9, 1, state="stopped", percent=60),
        trial(3, None, None, state="failed").model_copy(update={"reason": "<b>lost</b>"}),
    ]
    sweep = settings(tmp_path)
    text = page(sweep, result(sweep, trials, "s"))
    assert text.count("<polyline") == 4  # two trials with a score, in two charts
    assert text.count("<circle") == 1  # one has finished
    assert "&lt;b&gt;lost" in text
    assert not re.search(r"<script|https?://|@import|src=", text)


def test_a_page_without_a_single_score_is_a_page(tmp_path):
    sweep = settings(tmp_path)
    assert "No trial has finished" in page(sweep, result(sweep, [], "s"))
