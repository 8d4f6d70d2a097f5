"""The searches themselves: the real Optuna behind Ray's interface."""

import pytest
from ray.tune.search import Searcher

from core.errors import UserError
from tests.unit.tuning.test_sweep_records import settings, trial
from titrate.tune import seconds
from tuning.records import Journal
from tuning.search import tpe
from tuning.sweep import _resources
from workloads.space import Choice, Space


@pytest.fixture
def few(tmp_path):
    """A sweep over four values."""
    space = Space(keys={"train.batch": Choice(options=(8, 16, 32, 64))})
    return settings(tmp_path).model_copy(update={"space": space})


def batch(value, state, number):
    return trial(number, state).model_copy(update={"values": {"train.batch": value}, "score": value / 100})


def test_no_values_are_proposed_twice_and_the_end_of_the_space_ends_the_search(few, tmp_path):
    search = tpe(few, Journal(tmp_path))["search_alg"]
    proposed = [search.suggest(str(number)) for number in range(4)]
    assert sorted(values["train.batch"] for values in proposed) == [8, 16, 32, 64]
    assert search.suggest("5") == Searcher.FINISHED


def test_a_resumed_search_begins_with_what_was_interrupted_and_repeats_nothing_that_ended(few, tmp_path):
    journal = Journal(tmp_path)
    for number, (value, state) in enumerate(((8, "finished"), (16, "interrupted"), (32, "failed")), 1):
        journal.write(batch(value, state, number))
    search = tpe(few, journal)["search_alg"]
    assert [search.suggest(str(number)) for number in range(2)] == [{"train.batch": 16}, {"train.batch": 64}]
    assert search.suggest("2") == Searcher.FINISHED


@pytest.mark.parametrize("latency", [False, True])
def test_the_search_learns_from_results_and_lives_with_failures(few, tmp_path, latency):
    search = tpe(few.model_copy(update={"latency": latency}), Journal(tmp_path))["search_alg"]
    for number in range(3):
        search.suggest(str(number))
    result = {"score": 0.5, "latency_ms": 3.0, "training_iteration": 1}
    search.on_trial_result("0", result)
    search.on_trial_complete("0", result)
    search.on_trial_complete("1", error=True)
    assert search.suggest("3")["train.batch"] in {8, 16, 32, 64}


def test_a_trial_that_asks_for_more_than_there_is_is_refused(few):
    with pytest.raises(UserError, match="asks for 64 CPU, and there are 2"):
        _resources(few.model_copy(update={"cpus": 64.0}), {"CPU": 2.0})
    assert _resources(few, {"CPU": 2.0}) == {"CPU": 1.0, "GPU": 0.0}
    assert _resources(few, {"CPU": 2.0, "GPU": 1.0})["GPU"] == 1.0
    assert _resources(few.model_copy(update={"gpus": 0.25}), {"CPU": 2.0, "GPU": 1.0})["GPU"] == 0.25


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_a_budget_is_a_time(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "0", "-3m", "ten minutes", "10d"])
def test_a_budget_that_is_none_is_refused(text):
    with pytest.raises(UserError, match="write a time such as 90s"):
        seconds(text)
