import struct
import threading
from datetime import UTC, datetime, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from core.errors import TemporaryError, UserError
from core.events import Label
from serving.feedback import schema
from serving.feedback import store as store_module
from serving.feedback.counts import Count, Range, counts
from serving.feedback.store import migrate, open_store

AT = datetime(2026, 1, 1, tzinfo=UTC)
ALL = Range("pills", 0, 2**62)


def results(store, *labels):
    return [outcome.result for outcome in store.add_labels([Label(**label) for label in labels])]


def test_an_event_is_stored_once_and_comes_back_as_it_was_sent(store, make_event, rows):
    assert store.add_events([make_event(), make_event(item=1)]) == 2
    assert store.add_events([make_event(), make_event(item=2), make_event(item=2)]) == 1
    assert store.add_events([]) == 0
    stored = rows(store, schema.events)
    assert [row["prediction_id"] for row in stored] == ["r-0", "r-1", "r-2"]
    first = stored[0]
    assert first["at"] == int(AT.timestamp()) * 1_000_000
    assert struct.unpack("<3f", first["embedding"]) == (0.5, -1.25, 3.0)
    assert (first["labels"], first["image"], first["abstain"]) == (["red", "blue"], {"shape_ratio": 1.5}, False)


def test_a_mirrored_request_leaves_one_event_in_each_arm(store, make_event):
    assert store.add_events([make_event(), make_event(arm="candidate", release="e" * 64)]) == 2


def test_threads_that_send_the_same_batch_store_it_once(store, make_event, rows):
    batch = [make_event(f"r{i}", embedding=None) for i in range(4000)]
    accepted = []
    orders = (batch, batch[::-1], batch[1000:] + batch[:1000])
    threads = [threading.Thread(target=lambda part=part: accepted.append(store.add_events(part))) for part in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(accepted) == len(orders)  # none of them was the victim of a deadlock
    assert sum(accepted) == len(batch)
    assert len(rows(store, schema.events)) == len(batch)


def test_each_label_is_told_what_became_of_it(store, make_event, rows):
    store.add_events([make_event()])
    future = datetime.now(UTC) + timedelta(hours=1)
    given = [
        {"prediction_id": "r-0", "label": "red", "at": AT + timedelta(seconds=90)},
        {"prediction_id": "r-0", "label": "red"},
        {"prediction_id": "r-0", "label": "blue"},
        {"prediction_id": "later-0", "label": "blue"},
        {"prediction_id": "r-1", "label": "red", "at": future},
    ]
    expected = ["stored", "duplicate", "contradicts", "waiting", "future"]
    assert results(store, *given) == expected
    assert results(store, *given) == ["duplicate", "duplicate", "contradicts", "duplicate", "future"]
    assert {row["prediction_id"]: row["label"] for row in rows(store, schema.labels)} == {
        "r-0": "red",
        "later-0": "blue",
    }
    assert [(row["prediction_id"], row["label"]) for row in rows(store, schema.contradictions)] == [("r-0", "blue")]


def test_the_delay_of_a_label_is_measured_from_its_prediction(store, make_event):
    store.add_events([make_event()])
    (outcome,) = store.add_labels([Label(prediction_id="r-0", label="red", at=AT + timedelta(seconds=90))])
    assert outcome.delay_seconds == 90.0


def test_a_label_says_whether_the_client_was_told_right_and_not_what_a_copy_said(store, make_event):
    refused = {"outcome": "bad_image", "label": None, "probability": None, "abstain": None}
    store.add_events(
        [
            make_event("a"),
            make_event("a", arm="candidate", release="e" * 64, label="blue"),
            make_event("b", arm="candidate", release="e" * 64, label="blue"),
            make_event("c", **refused),
        ]
    )
    found = store.add_labels([Label(prediction_id=f"{name}-0", label="red") for name in "abc"])
    assert [(one.workload, one.right) for one in found] == [("pills", True), ("pills", False), ("pills", None)]


def test_many_labels_fit_one_batch(store):
    many = [Label(prediction_id=f"r{i}-0", label="red") for i in range(3500)]
    assert {outcome.result for outcome in store.add_labels(many)} == {"waiting"}


def test_a_label_that_came_before_its_event_counts_when_the_event_arrives(store, make_event):
    assert results(store, {"prediction_id": "r-0", "label": "blue"}) == ["waiting"]
    store.add_events([make_event()])
    with store.reading() as connection:
        assert Count("stable", "f" * 64, "correct", 1, 0) in counts(connection, ALL)


def test_counts_say_how_often_each_thing_happened_in_each_arm(store, make_event):
    stable, candidate = "f" * 64, "e" * 64
    store.add_events(
        [
            make_event("a"),
            make_event("b", label="blue", abstain=True, latency_ms=700.0),
            make_event("c", outcome="bad_image", label=None, probability=None, abstain=None),
            make_event("a", arm="candidate", release=candidate),
            make_event("b", arm="candidate", release=candidate),
            make_event("old", at=AT - timedelta(seconds=1)),
            make_event("other", workload="lens"),
        ]
    )
    results(store, {"prediction_id": "a-0", "label": "red"}, {"prediction_id": "b-0", "label": "red"})
    since = int(AT.timestamp() * 1e6)
    with store.reading() as connection:
        found = counts(connection, Range("pills", since, since + 1), slow_ms=500.0)
        before = counts(connection, Range("pills", since - 10**6, since))
        assert counts(connection, Range("pills", since + 1, 2**62)) == []
    assert {(count.metric, count.n) for count in before} == {("abstained", 1), ("predicted/red", 1), ("refused", 1)}
    assert found == [
        Count("candidate", candidate, "abstained", 2, 0),
        Count("candidate", candidate, "agrees", 2, 1),
        Count("candidate", candidate, "correct", 2, 2),
        Count("candidate", candidate, "predicted/red", 2, 2),
        Count("candidate", candidate, "refused", 2, 0),
        Count("candidate", candidate, "slow", 2, 0),
        Count("stable", stable, "abstained", 2, 1),
        Count("stable", stable, "correct", 2, 1),
        Count("stable", stable, "predicted/blue", 2, 1),
        Count("stable", stable, "predicted/red", 2, 1),
        Count("stable", stable, "refused", 3, 1),
        Count("stable", stable, "slow", 3, 1),
    ]


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(store):
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    migrate(store.engine)  # twice is harmless
    migrate_down_and_up(store)


def migrate_down_and_up(store):
    with store.engine.begin() as connection:
        schema.metadata.drop_all(connection)
        connection.exec_driver_sql("delete from alembic_version")
    migrate(store.engine)
    store.ping()


def test_two_services_that_start_together_make_the_tables_once(database):
    opened, threads = [], []
    for _ in range(4):
        threads.append(threading.Thread(target=lambda: opened.append(open_store(database))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    for store in opened:
        store.ping()
        store.engine.dispose()


def test_a_locked_database_is_a_temporary_error_and_stores_nothing(tmp_path, make_event, monkeypatch, rows):
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.05)
    store = open_store(f"sqlite:///{tmp_path / 'f.db'}")
    with store.writing(), pytest.raises(TemporaryError, match="does not answer"):
        store.add_events([make_event()])
    assert rows(store, schema.events) == []
    assert store.add_events([make_event()]) == 1
    store.engine.dispose()


@pytest.mark.parametrize("url", ["feedback.db", "mysql://host/name", "sqlite://", "sqlite:///:memory:"])
def test_a_database_that_cannot_keep_events_is_refused(url):
    with pytest.raises(UserError):
        open_store(url)


def test_a_database_that_is_not_there_is_a_temporary_error():
    with pytest.raises(TemporaryError):
        open_store("postgresql+psycopg://nobody@127.0.0.1:1/nothing")


def test_what_is_too_old_is_forgotten_and_the_rest_stays(store, make_event, rows):
    old, new = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    store.add_events([make_event(f"old{number}", at=old) for number in range(2500)])
    store.add_events([make_event(f"new{number}", at=new) for number in range(10)])
    store.add_labels([Label(prediction_id="new1-0", label="red"), Label(prediction_id="old1-0", label="red")])
    cut = int(datetime(2025, 6, 1, tzinfo=UTC).timestamp() * 1e6)
    assert store.forget(cut) == 2500
    assert {row["request_id"] for row in rows(store, schema.events)} == {f"new{number}" for number in range(10)}
    assert len(rows(store, schema.labels)) == 2  # they came now
    assert store.forget(cut) == 0
    assert store.forget(2**62) == 12
