"""The monitor of a release over simulated events: quiet, each kind of change, missing numbers, its promise."""

import numpy as np
import pytest

from core.evidence import one_sample
from core.verdict import Outcome
from serving.drift.cause import Cause, change_point, describe
from serving.drift.monitor import WRONG, Part, Settings, Watched
from serving.drift.sample import UNKNOWN, Sample

CLASSES, EMBEDDING, STATISTICS = 6, 16, 5
COLUMNS = (*(f"embedding_{i}" for i in range(EMBEDDING)), *(f"statistic_{i}" for i in range(STATISTICS)))
LABELS = tuple(f"class_{i}" for i in range(CLASSES))
CENTRES = np.random.default_rng(5).normal(size=(CLASSES, EMBEDDING + STATISTICS))
EVEN = np.full(CLASSES, 1 / CLASSES)


def draw(rng, number, *, camera=0.0, network=0.0, mix=EVEN):
    """Events of classes drawn from `mix`; a moved camera shifts the statistics, a moved network the embedding."""
    classes = rng.choice(CLASSES, number, p=mix)
    values = CENTRES[classes] + rng.normal(size=(number, EMBEDDING + STATISTICS))
    values[:, EMBEDDING:] += camera
    values[:, :EMBEDDING] += network
    return Sample("a" * 64, COLUMNS, values, classes.astype(np.int64), LABELS)


@pytest.fixture(scope="module")
def reference():
    return draw(np.random.default_rng(0), 400)


@pytest.fixture(scope="module")
def watched(reference):
    return Watched.fit(reference, 0.12, Settings())


def updates_until_alarm(watched, rng, at_most=400, labels=(0, 0), **how):
    state = one_sample.begin(watched.monitor)
    for number in range(1, at_most + 1):
        state = watched.observe(state, draw(rng, 20, **how), *labels)
        if watched.judge(state).outcome is Outcome.FAIL:
            return number, state
    return None, state


def test_events_like_the_reference_raise_no_alarm(watched):
    found, state = updates_until_alarm(watched, np.random.default_rng(1), 400, labels=(1, 9))
    assert found is None
    assert watched.judge(state).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("how", "part", "within"),
    [
        ({"camera": 2.0}, Part.IMAGES, 25),
        ({"network": 2.0}, Part.EMBEDDING, 15),
        ({"mix": np.array([0.75, *[0.05] * 5])}, Part.MIX, 40),
        ({"labels": (5, 5)}, Part.QUALITY, 10),
    ],
)
def test_each_kind_of_change_is_found_by_its_part(watched, how, part, within):
    found, state = updates_until_alarm(watched, np.random.default_rng(2), **how)
    assert found is not None and found <= within
    evidence = watched.evidence(state)
    del evidence[Part.OUTLIERS]  # of all columns together
    assert max(evidence, key=evidence.get) is part


def test_a_change_after_a_long_quiet_time_is_found_as_soon(watched):
    rng, state = np.random.default_rng(3), one_sample.begin(watched.monitor)
    for _ in range(300):
        state = watched.observe(state, draw(rng, 20))
    for number in range(1, 30):
        state = watched.observe(state, draw(rng, 20, camera=2.0))
        if watched.judge(state).outcome is Outcome.FAIL:
            assert number <= 25
            return
    pytest.fail("no alarm")


def test_the_limits_hold_for_the_reference_itself_and_other_draws(reference, watched):
    """Of 40 fresh references, at most a few bounds are exceeded by the true shares."""
    rates = {limit.name: limit.rate for limit in watched.monitor.limits}
    usable, beyond = watched.hits(*(draw(np.random.default_rng(4), 20_000)[2:4]))
    shares = dict(zip(watched.names(), beyond.sum(axis=0) / usable.sum(axis=0), strict=True))
    assert not [name for name, rate in rates.items() if name != WRONG and shares[name] > rate]


def test_events_of_one_sitting_count_as_one(reference):
    """Ten equal events of a sitting give the evidence of one, whatever their number in an update."""
    alone = Watched.fit(reference, 0.12, Settings(together=1))
    shared = Watched.fit(reference, 0.12, Settings(together=10))
    one = draw(np.random.default_rng(6), 1, camera=2.0)
    ten = one._replace(values=np.repeat(one.values, 10, axis=0), predictions=np.repeat(one.predictions, 10))
    state = shared.observe(one_sample.begin(shared.monitor), ten)
    assert np.allclose(state.log_r, alone.observe(one_sample.begin(alone.monitor), one).log_r)


def test_a_reference_that_was_taken_in_sittings_bounds_less(reference):
    """The release says how many of its rows say the same; a setting overrules it."""
    plain, taken = (Watched.fit(one, 0.12, Settings()) for one in (reference, reference._replace(together=10.0)))
    wider = {limit.name: limit.rate for limit in taken.monitor.limits}
    assert all(
        wider[limit.name] > limit.rate for limit in plain.monitor.limits if limit.name in wider and limit.name != WRONG
    )
    said = Watched.fit(reference._replace(together=10.0), 0.12, Settings(reference_together=1))
    assert said.monitor == plain.monitor


def test_missing_numbers_and_unknown_classes_hit_nothing(watched):
    rows = draw(np.random.default_rng(7), 50, camera=50.0, network=50.0)
    empty = rows._replace(values=np.full_like(rows.values, np.nan), predictions=np.full(50, UNKNOWN))
    usable, beyond = watched.hits(empty.values, empty.predictions)
    assert not usable.any() and not beyond.any()
    state = one_sample.begin(watched.monitor)
    assert watched.observe(state, empty) == state


def test_a_constant_column_is_no_alarm_until_it_changes():
    rng = np.random.default_rng(8)
    still = draw(rng, 300)
    still.values[:, -1] = 3.0
    watched = Watched.fit(still, 0.12, Settings())
    state = one_sample.begin(watched.monitor)
    for _ in range(100):
        window = draw(rng, 20)
        window.values[:, -1] = 3.0
        state = watched.observe(state, window)
    assert watched.judge(state).outcome is Outcome.INCONCLUSIVE
    for _ in range(15):
        state = watched.observe(state, draw(rng, 20))
    assert watched.judge(state).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("how", "wrong", "causes"),
    [
        ({"camera": 1.5}, False, (Cause.CAMERA,)),
        ({"network": 1.5}, False, (Cause.COVARIATE,)),
        ({"mix": np.array([0.75, *[0.05] * 5])}, False, (Cause.LABEL,)),
        ({"camera": 1.5}, True, (Cause.CAMERA, Cause.QUALITY)),
        ({}, True, (Cause.QUALITY,)),
        ({}, False, (Cause.UNNAMED,)),
    ],
)
def test_the_cause_is_named(reference, how, wrong, causes):
    assert describe(reference, draw(np.random.default_rng(9), 300, **how), wrong).causes == causes


def test_a_new_mix_moves_columns_and_is_still_no_camera_change(reference):
    """The plain comparison would call it one: the classes differ in every column."""
    window = draw(np.random.default_rng(10), 400, mix=np.array([0.75, *[0.05] * 5]))
    found = describe(reference, window, wrong=False)
    assert found.causes == (Cause.LABEL,)
    assert next(iter(found.classes)) == "class_0" and found.classes["class_0"] > 0.4


def test_answers_that_collapse_onto_one_class_do_not_hide_a_camera_change(reference):
    """Too few rows of that class are left to weigh: the images are like no row at all."""
    window = draw(np.random.default_rng(12), 200, camera=9.0)
    collapsed = window._replace(predictions=np.zeros(200, np.int64))
    few = reference._replace(values=reference.values[:80], predictions=reference.predictions[:80])
    assert describe(few, collapsed, wrong=False).causes == (Cause.CAMERA,)


def test_another_sitting_of_a_class_that_was_photographed_once_is_no_camera_change():
    """Rows of one sitting are nearly the same, so that those of any other are further away than they."""
    rng = np.random.default_rng(13)
    sittings = draw(rng, 24)
    rows = np.repeat(sittings.values, 5, axis=0) + rng.normal(0, 0.05, (120, EMBEDDING + STATISTICS))
    few = Sample("a" * 64, COLUMNS, rows, np.repeat(sittings.predictions, 5), LABELS, together=5.0)
    asked = np.bincount(sittings.predictions, minlength=CLASSES).argmin()
    window = draw(rng, 200, mix=np.eye(CLASSES)[asked])
    assert describe(few, window, wrong=False).causes == (Cause.LABEL,)


def test_an_empty_window_names_nothing(reference):
    assert describe(reference, draw(np.random.default_rng(0), 0), wrong=False).causes == (Cause.UNNAMED,)


def test_the_change_point_is_where_the_share_rises():
    rng = np.random.default_rng(11)
    hits = np.concatenate([rng.random(500) < 0.05, rng.random(80) < 0.6])
    assert abs(change_point(hits, 0.15) - 500) <= 10
