"""When to train again: each trigger, each thing that holds it back, and no storms whatever is observed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.retraining.decide import RetrainingSpec, RetrainingState, Seen, Trigger, ended, should_retrain

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
SPEC = RetrainingSpec(accuracy=0.88, drift=0.3)
HOURS_A_WEEK = 7 * 24


def seen(hours: float = 0.0, new: int = 2_000, **changes: object) -> Seen:
    return Seen.model_validate({"now": NOW + timedelta(hours=hours), "new_samples": new, **changes})


@pytest.mark.parametrize(
    ("observed", "trigger"),
    [
        (seen(wrong=13, right=87), Trigger.ACCURACY),
        (seen(score=0.31), Trigger.DRIFT),
        (seen(alarm="camera change"), Trigger.DRIFT),
        (seen(new=5_000), Trigger.DATA),
        (seen(new=0, asked="a recall"), Trigger.HAND),
        (seen(wrong=50, right=50, score=0.9, new=9_000), Trigger.ACCURACY),
    ],
)
def test_a_trigger_with_enough_new_data_starts_a_training(observed: Seen, trigger: Trigger) -> None:
    assert should_retrain(SPEC, RetrainingState(), observed).start is trigger


@pytest.mark.parametrize(
    "observed",
    [
        seen(wrong=12, right=88),
        seen(wrong=50, right=49),  # 99 labels say nothing
        seen(score=0.3),
        seen(new=4_999),
        seen(),
    ],
)
def test_limits_that_are_kept_start_nothing(observed: Seen) -> None:
    decision = should_retrain(SPEC, RetrainingState(), observed)
    assert decision.start is None and decision.state.pending is None


@pytest.mark.parametrize(
    ("state", "observed", "word"),
    [
        ({}, seen(score=0.9, new=999), "999 of 1000 new samples"),
        ({}, seen(score=0.9, busy="rollout 0001 goes on"), "rollout 0001 goes on"),
        ({"ended_at": NOW - timedelta(hours=23)}, seen(score=0.9), "the next may begin at"),
        ({"ended_at": NOW - timedelta(hours=47), "failures": 1}, seen(score=0.9), "1 failed"),
        ({"starts": (NOW - timedelta(days=6),) * 3}, seen(asked="now"), "the budget is 3"),
    ],
)
def test_a_trigger_that_is_held_back_stays_pending_and_says_why(state: dict, observed: Seen, word: str) -> None:
    decision = should_retrain(SPEC, RetrainingState.model_validate(state), observed)
    assert decision.start is None
    assert word in decision.reason
    assert decision.state.pending is not None and decision.state.pending_since == NOW


def test_a_pending_trigger_starts_when_what_it_waited_for_is_there_and_keeps_its_clock() -> None:
    waiting = should_retrain(SPEC, RetrainingState(), seen(score=0.9, new=10)).state
    later = should_retrain(SPEC, waiting, seen(hours=6, score=0.0, new=1_200))
    assert later.start is Trigger.DRIFT
    assert later.state.pending_since == NOW


def test_between_two_looks_only_a_request_by_hand_starts_one() -> None:
    looked = should_retrain(SPEC, RetrainingState(), seen()).state
    assert should_retrain(SPEC, looked, seen(hours=5.9, score=0.9)).start is None
    assert should_retrain(SPEC, looked, seen(hours=5.9, asked="recall")).start is Trigger.HAND
    assert should_retrain(SPEC, looked, seen(hours=6, score=0.9)).start is Trigger.DRIFT


def test_the_weekly_training_begins_once_after_sunday_two_o_clock_with_enough_new_samples() -> None:
    state, starts = RetrainingState(), []
    for hour in range(0, 14 * 24, 6):
        decision = should_retrain(SPEC, state, seen(hours=hour, new=1_500))
        state = decision.state
        if decision.start:
            starts.append((decision.start, NOW + timedelta(hours=hour)))
            state = ended(state, NOW + timedelta(hours=hour + 1), succeeded=True)
    assert starts == [
        (Trigger.WEEKLY, datetime(2026, 3, 8, 6, tzinfo=UTC)),
        (Trigger.WEEKLY, datetime(2026, 3, 15, 6, tzinfo=UTC)),
    ]
    quiet = should_retrain(SPEC, RetrainingState(weekly_at=NOW - timedelta(days=30)), seen(new=999))
    assert quiet.start is None and quiet.state.pending is None


def test_success_clears_the_trigger_and_failure_keeps_it_and_backs_off() -> None:
    started = should_retrain(SPEC, RetrainingState(), seen(score=0.9)).state
    assert ended(started, NOW, succeeded=True).pending is None
    failed = ended(started, NOW, succeeded=False)
    assert failed.pending is Trigger.DRIFT and failed.pending_since == NOW
    assert should_retrain(SPEC, failed, seen(hours=36)).start is None
    assert should_retrain(SPEC, failed, seen(hours=48)).start is Trigger.DRIFT


OBSERVATIONS = st.builds(
    dict,
    hours=st.floats(0, 12),
    new=st.integers(0, 9_000),
    wrong=st.integers(0, 200),
    right=st.integers(0, 200),
    score=st.none() | st.floats(0, 1),
    asked=st.none() | st.just("hand"),
    succeeds=st.booleans(),
)


@settings(deadline=None)
@given(st.lists(OBSERVATIONS, max_size=60))
def test_no_storm_whatever_is_observed(rows: list[dict]) -> None:
    """At most the budget in any seven days, and nothing but a request by hand within the cooldown."""
    state, hours, starts, last = RetrainingState(), 0.0, [], None
    for row in rows:
        hours += row.pop("hours")
        succeeds = row.pop("succeeds")
        decision = should_retrain(SPEC, state, seen(hours=hours, **row))
        state = decision.state
        if decision.start:
            if decision.start is not Trigger.HAND and last is not None:
                assert hours - last >= SPEC.cooldown_hours
            starts.append(hours)
            last = hours
            state = ended(state, NOW + timedelta(hours=hours), succeeded=succeeds)
        assert sum(hours - start < HOURS_A_WEEK for start in starts) <= SPEC.jobs_per_week
