"""Counters: what is new in a look, whatever comes twice, late, restarted or not at all."""

from hypothesis import given
from hypothesis import strategies as st

from serving.rollout import counting
from serving.rollout.counting import count
from serving.rollout.engine import begin
from serving.rollout.observations import Reading
from tests.unit.serving.rollout.world import quick_spec

SPEC = quick_spec()
START = begin(SPEC, "r").model_copy(update={"weight": 10})


def _reading(arm, stamp, bad, good, source="s", incarnation=""):
    return Reading(source=source, arm=arm, stamp=stamp, counts={"errors": (bad, good)}, incarnation=incarnation)


def _both(stamp, stable, candidate):
    return [_reading("stable", stamp, *stable), _reading("candidate", stamp, *candidate)]


def _after(*looks, spec=SPEC, state=START):
    """The errors' increments of each look in turn, and the state."""
    found = []
    for readings in looks:
        counted = count(spec, state, readings)
        state = state.model_copy(update={"cursors": counted.cursors})
        new = counted.increments.get("errors")
        found.append((new.stable, new.candidate) if new else None)
    return found, state


def test_first_sight_is_where_counting_starts():
    found, _ = _after(_both(1, (7, 93), (1, 9)), _both(2, (8, 192), (1, 29)))
    assert found == [None, ((1, 99), (0, 20))]


def test_missing_arm_is_made_up_for():
    start = _both(1, (0, 0), (0, 0))
    found, _ = _after(start, [_reading("candidate", 2, 3, 7)], _both(3, (1, 99), (5, 15)))
    assert found == [None, None, ((1, 99), (5, 15))]


def test_falling_counter_is_a_restart_from_zero():
    found, _ = _after(_both(1, (5, 95), (0, 0)), _both(2, (2, 8), (0, 3)))
    assert found[1] == ((2, 8), (0, 3))


def test_new_incarnation_is_a_restart_even_when_the_counter_grew():
    first = [_reading("stable", 1, 0, 10, incarnation="a"), _reading("candidate", 1, 0, 0)]
    then = [_reading("stable", 2, 1, 29, incarnation="b"), _reading("candidate", 2, 0, 4)]
    assert _after(first, then)[0][1] == ((1, 29), (0, 4))


def test_sources_of_one_arm_are_added():
    def look(stamp, one, two):
        return [
            _reading("stable", stamp, 0, one, source="a"),
            _reading("stable", stamp, 0, two, source="b"),
            _reading("candidate", stamp, 0, stamp),
        ]

    assert _after(look(1, 5, 7), look(2, 15, 9))[0][1] == ((0, 12), (0, 1))


def test_without_stable_traffic_the_candidate_counts_alone():
    alone = START.model_copy(update={"weight": 100})
    found, _ = _after([_reading("candidate", 1, 0, 0)], [_reading("candidate", 2, 1, 9)], state=alone)
    assert found[1] == ((0, 0), (1, 9))


def test_baseline_is_compared_in_stables_place_and_stable_moves_on():
    spec = SPEC.model_copy(update={"baseline": True})
    looks = [[*_both(s, (0, 900 * s), (0, 10 * s)), _reading("baseline", s, 0, 11 * s)] for s in (1, 2)]
    found, state = _after(*looks, spec=spec)
    assert found[1] == ((0, 11), (0, 10))
    assert state.cursors["s|stable|errors"].counts == (0, 1800)


def test_wrong_number_of_counts_is_said_and_left_out():
    wrong = Reading(source="s", arm="stable", stamp=1, counts={"errors": (1, 2, 3)})
    counted = count(SPEC, START, [wrong])
    assert counted.problems == ("s|stable|errors: 3 counts where 2 belong",) and not counted.cursors


def test_memory_is_bounded_and_a_forgotten_source_is_never_counted_twice(monkeypatch):
    monkeypatch.setattr(counting, "SOURCES", 8)
    looks = [[_reading("stable", stamp, 0, 100, source=f"pod{stamp}")] for stamp in range(1, 30)]
    _, state = _after(*looks)
    assert len(state.cursors) == 8
    assert _after(_both(40, (0, 100), (0, 0)), state=state)[0] == [None]


growth = st.lists(st.tuples(*[st.integers(0, 50)] * 4), min_size=2, max_size=8)


def _cumulative(steps):
    looks, total = [], (0, 0, 0, 0)
    for stamp, step in enumerate(steps, start=1):
        total = tuple(a + b for a, b in zip(total, step, strict=True))
        looks.append(_both(stamp, total[:2], total[2:]))
    return looks


@given(growth, st.data())
def test_repeated_and_late_readings_change_nothing(steps, data):
    looks = _cumulative(steps)
    clean, state = _after(*looks)
    for index, look in enumerate(looks):
        old = [reading for earlier in looks[: index + 1] for reading in earlier]
        look += data.draw(st.lists(st.sampled_from(old), max_size=6))
        data.draw(st.randoms()).shuffle(look)
    again, dirty = _after(*looks)
    assert again == clean and dirty.cursors == state.cursors


@given(growth, st.data())
def test_lost_readings_lose_no_count(steps, data):
    looks = _cumulative(steps)
    kept = [looks[0], *(look for look in looks[1:-1] if data.draw(st.booleans())), looks[-1]]
    total = [sum(new[arm][i] for new in _after(*kept)[0] if new) for arm in (0, 1) for i in (0, 1)]
    assert total == [sum(step[i] for step in steps[1:]) for i in range(4)]
