"""What events and labels say about two arms, over the real store of the feedback service."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from core.errors import TemporaryError, UserError
from core.events import Event, Label, prediction_id
from core.home import Home
from core.slo import Slo
from serving.feedback.store import open_store
from serving.rollout.metrics import Compared, Confidence, Group, Query, Slice
from serving.rollout.presets import preset
from titrate.rollouts.event_counts import EventCounts

STABLE, CANDIDATE = "a" * 64, "b" * 64
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SINCE = int(BEGAN.timestamp() * 1e6)
CLASSES = ("red", "green", "blue")


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.fixture
def store(home):
    return open_store(home.events)


@pytest.fixture
def spec():
    return preset(
        "canary", workload="pills", stable=STABLE, candidate=CANDIDATE, slo=Slo.load("pills"), classes=CLASSES
    )


def event(request, label, arm="stable", release=STABLE, at=BEGAN + timedelta(seconds=1), **more):
    """One answer."""
    return Event(
        prediction_id=prediction_id(request, 0),
        request_id=request,
        item=0,
        workload="pills",
        release=release,
        model_version="1",
        arm=arm,
        at=at,
        outcome="ok",
        label=label,
        latency_ms=5.0,
        **more,
    )


def candidate(request, label, **changes):
    return event(request, label, "candidate", CANDIDATE, **changes)


def counts(home, spec, stamp=1.0):
    """Counts by arm."""
    return {reading.arm: reading for reading in EventCounts(home).readings(spec, stamp, SINCE)}


def test_accuracy_groups_and_mix_are_counted_by_arm(home, store, spec):
    store.add_events([event("s1", "red"), event("s2", "red"), event("s3", "blue"), candidate("c1", "green")])
    store.add_labels(
        [
            Label(prediction_id=prediction_id(*pair), label=label)
            for pair, label in {
                ("s1", 0): "red",
                ("s2", 0): "green",
                ("c1", 0): "green",
                ("nobody", 0): "red",
            }.items()
        ]
    )
    found = counts(home, spec)
    stable, other = found["stable"], found["candidate"]
    assert stable.counts["accuracy"] == (1, 1)
    assert stable.counts["accuracy/green"] == (1, 0)
    assert stable.counts["accuracy/red"] == (0, 1)
    assert stable.counts["mix"] == (2, 0, 1)
    assert stable.eligible == {"accuracy": 3}
    assert found["stable"].counts["accuracy/blue"] == (0, 0)
    assert other.counts["accuracy"] == (0, 1)
    assert other.counts["mix"] == (0, 1, 0)


def test_what_no_label_could_have_reached_yet_is_not_counted_against_an_arm(home, store, spec):
    """Labels come in the order of the answers; the candidate got most of its requests after the newest label."""
    late = BEGAN + timedelta(minutes=5)
    store.add_events([event("s1", "red"), candidate("c1", "red"), *(candidate(f"n{i}", "red", at=late) for i in "123")])
    assert counts(home, spec)["candidate"].eligible == {"accuracy": 0}
    store.add_labels([Label(prediction_id=prediction_id(name, 0), label="red") for name in ("s1", "c1")])
    assert counts(home, spec)["candidate"].eligible == {"accuracy": 1}
    store.add_labels([Label(prediction_id=prediction_id("n2", 0), label="red")])
    assert counts(home, spec)["candidate"].eligible == {"accuracy": 4}


def test_groups_are_look_alikes_or_who_asked(home, store, spec):
    alike = Slice(metric="accuracy", named=(Group(name="alike", members=("red", "green")),), margin=0.1)
    ward = Slice(metric="accuracy", by="user", groups=("ward 3",), margin=0.1)
    mine = spec.model_copy(update={"slices": (alike, ward)})
    store.add_events([event("a", "red", user="ward 3"), event("b", "blue"), event("c", "blue", user="ward 3")])
    told = {"a": "green", "b": "blue", "c": "blue"}
    store.add_labels([Label(prediction_id=prediction_id(name, 0), label=label) for name, label in told.items()])
    stable = counts(home, mine)["stable"].counts
    assert (stable["accuracy"], stable["accuracy/alike"], stable["accuracy/ward 3"]) == ((1, 2), (1, 0), (1, 1))
    slow = mine.model_copy(update={"slices": (Slice(metric="slow", groups=("ward 3",), margin=0.1),)})
    with pytest.raises(UserError, match="slices of 'slow': only 'accuracy' is counted by group"):
        EventCounts(home).check(slow)


def test_how_sure_the_answers_are_is_counted_in_bands(home, store, spec):
    mine = spec.model_copy(update={"metrics": (*spec.metrics, Confidence(bounds=(0.5, 0.9), margin=0.1))})
    sure = {"a": 0.3, "b": 0.5, "c": 0.9, "d": 0.97}
    store.add_events([event(name, "red", probability=value) for name, value in sure.items()])
    store.add_events([candidate("e", "red", probability=0.2)])
    found = counts(home, mine)
    assert [found[arm].counts["confidence"] for arm in ("stable", "candidate")] == [(1, 1, 2), (1, 0, 0)]


def test_copies_are_compared_with_stables_answer_to_the_same_request(home, store, spec):
    store.add_events([event("x1", "red"), event("x2", "red"), candidate("x1", "red"), candidate("x2", "blue")])
    assert counts(home, spec)["candidate"].counts["agreement"] == (1, 1)


def test_testers_and_answers_given_in_the_candidates_place_count_for_nobody(home, store, spec):
    store.add_events(
        [
            event("t1", "red", "tester", CANDIDATE),
            event("f1", "red", "candidate", STABLE),
            event("o1", "red", at=BEGAN - timedelta(seconds=1)),
        ]
    )
    found = counts(home, spec)
    assert [found[arm].counts["mix"] for arm in ("stable", "candidate")] == [(0, 0, 0)] * 2


def test_a_metric_of_ones_own_is_two_queries(home, store, spec):
    sql = "select count(*) from events where arm = :arm and release = :release and at >= :since"
    query = Query(language="sql", bad=f"{sql} and label = 'red'", total=sql)
    mine = spec.model_copy(update={"metrics": (*spec.metrics, Compared(name="reds", margin=0.1, query=query))})
    store.add_events([event("s1", "red"), event("s2", "blue"), candidate("c1", "red")])
    EventCounts(home).check(mine)
    found = counts(home, mine)
    assert found["stable"].counts["reds"] == (1, 1)
    assert found["candidate"].counts["reds"] == (1, 0)


@pytest.mark.parametrize(
    "sql", ["select nonsense from nowhere", "drop table events", "select 'x'", "delete from events"]
)
def test_a_query_that_fails_or_writes_is_refused_with_its_reason(home, store, spec, sql):
    store.add_events([event("s1", "red")])
    query = Query(language="sql", bad=sql, total="select 1")
    mine = spec.model_copy(update={"metrics": (*spec.metrics, Compared(name="reds", margin=0.1, query=query))})
    with pytest.raises(UserError, match="metric 'reds': its SQL fails"):
        EventCounts(home).check(mine)
    assert counts(home, spec)["stable"].counts["mix"] == (1, 0, 0)


def test_without_a_store_nothing_is_counted_and_nothing_made(home, spec):
    assert counts(home, spec) == {}
    assert not (home.root / "events.db").exists()


def test_a_store_that_cannot_be_read_is_temporary(home, spec):
    (home.root / "events.db").write_bytes(b"no database")
    with pytest.raises(TemporaryError, match="cannot be counted"):
        EventCounts(home).readings(spec, 1.0, SINCE)


def test_a_locked_store_is_temporary_and_waits_no_longer_than_a_second(home, store, spec):
    store.engine.dispose()
    with sqlite3.connect(home.root / "events.db", isolation_level=None) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TemporaryError, match="locked"):
            EventCounts(home).readings(spec, 1.0, SINCE)
    other.close()
