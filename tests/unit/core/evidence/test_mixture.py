"""The recursion over looks and the stakes of late harm."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.evidence import mixture


@given(st.lists(st.floats(0, 1e7), max_size=60))
def test_all_stakes_together_stay_below_1(steps: list[float]) -> None:
    spent, total = 0.0, mixture.FIRST
    for step in steps:
        total += float(np.exp(mixture.stake(np.array(spent), np.array(step))))
        spent += step
    assert total <= 1 + 1e-12


@given(st.floats(0, 1e6), st.floats(0, 1e4), st.floats(0, 1e4))
def test_cutting_a_look_in_two_places_the_same_stake(spent: float, one: float, two: float) -> None:
    first, second = mixture.stake(np.array([spent, spent + one]), np.array([one, two]))
    whole = mixture.stake(np.array(spent), np.array(one + two))
    assert np.exp(first) + np.exp(second) == pytest.approx(np.exp(whole), abs=1e-12)


def test_no_new_pairs_place_no_stake() -> None:
    assert float(mixture.stake(np.array(123.0), np.array(0.0))) == mixture.NOTHING


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(1e-6, 1)), min_size=1, max_size=30))
def test_recursion_in_logs_equals_the_plain_one(steps: list[tuple[float, float]]) -> None:
    log_w, w = np.array(mixture.NOTHING), 0.0
    for ratio, stake in steps:
        log_w = mixture.multiply(log_w, np.array(ratio), np.log(np.array(stake)))
        w = np.exp(ratio) * (w + stake)
    assert float(log_w) == pytest.approx(np.log(w), abs=1e-9)


def test_an_empty_process_survives_json_and_never_falls_lower() -> None:
    fallen = mixture.multiply(np.array(mixture.NOTHING), np.array(-1e6), np.array(mixture.NOTHING))
    assert json.loads(json.dumps(float(fallen), allow_nan=False)) == mixture.NOTHING


def test_mean_weighs_alternatives_equally() -> None:
    assert float(mixture.mean(np.log(np.array([1.0, 2.0, 6.0])))) == pytest.approx(np.log(3))
    assert float(mixture.mean(np.array([1000.0, mixture.NOTHING]))) == pytest.approx(1000 - np.log(2))
