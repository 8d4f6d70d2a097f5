"""The loop's turns: what is due, what Prometheus reads, and that one broken thing stops no other."""

import json

import pytest
from prometheus_client import generate_latest

from titrate.loop import jobs
from titrate.loop.retrain import ask
from titrate.loop.service import Loop, Metrics
from titrate.loop.settings import folder
from titrate.loop.status import status
from titrate.tables import jobs_table, loop_table


@pytest.fixture
def loop(served):
    file = folder(served.home, "pills") / "settings.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"watch": {"every_seconds": 1, "together": 1}, "retraining": {"look_hours": 1e-9}}))
    return Loop(served.home, Metrics())


def shown(loop):
    return generate_latest(loop._metrics.registry).decode()


def test_drift_is_counted_scored_and_told(served, loop):
    loop.turn(0.0)
    served.send(200, brightness=-3)
    loop.turn(20.0)
    text = shown(loop)
    assert 'titrate_drift_alarms_total{cause="camera change",workload="pills"} 1.0' in text
    assert 'titrate_drift_alarm{cause="camera change",workload="pills"} 1.0' in text
    assert 'titrate_drift_alarm{cause="label shift",workload="pills"} 0.0' in text
    assert 'titrate_drift_score{workload="pills"} 0.' in text
    assert 'titrate_retraining_pending_since_seconds{workload="pills"}' in text
    found = status(served.home, "pills")
    assert found.watch.alarm.causes == ("camera change",)
    assert "drift since" in found.retraining.reason and "0 of 1000 new samples" in found.retraining.reason
    assert "camera change" in loop_table(found)
    assert jobs_table([]) == "the loop has trained nothing yet"


def test_a_score_without_enough_events_is_taken_away(served, loop):
    served.send(200, brightness=-3)
    loop.turn(0.0)
    assert "titrate_drift_score{" in shown(loop)
    served.store.engine.dispose()
    with served.store.writing() as connection:
        connection.exec_driver_sql("delete from events")
    loop.turn(20.0)
    assert "titrate_drift_score{" not in shown(loop)


def test_nothing_is_done_before_it_is_due(served, loop):
    loop.turn(0.0)
    served.send(20)
    loop.turn(0.5)
    assert status(served.home, "pills").watch.events == 0
    loop.turn(1.0)
    assert status(served.home, "pills").watch.events == 20


def test_a_release_without_a_reference_is_told_once_and_retraining_goes_on(served, loop, caplog):
    from titrate.stack.releases import fetched

    (fetched(served.home, served.release) / "reference" / "reference.json").unlink()
    loop.turn(0.0)
    loop.turn(2.0)
    told = [record for record in caplog.records if record.facts["of"] == "drift of pills"]
    assert len(told) == 1 and "no drift reference" in told[0].facts["error"]
    assert status(served.home, "pills").retraining.new_samples == 0


def test_other_settings_are_taken_up_at_the_next_turn(served, loop):
    file = folder(served.home, "pills") / "settings.json"
    file.write_text(json.dumps({"watch": {"every_seconds": 60}}))
    loop.turn(0.0)
    file.write_text(json.dumps({"watch": {"every_seconds": 1}}))
    loop.turn(1.0)
    served.send(20)
    loop.turn(2.0)
    assert status(served.home, "pills").watch.events == 20


def test_a_training_goes_on_when_the_settings_change(served, loop, monkeypatch):
    started = []

    class Process:
        def poll(self):
            return None

    monkeypatch.setattr(jobs, "begin", lambda home, job: started.append(job) or Process())
    ask(served.home, "pills", "ada", "a recall")
    for second in range(3):
        loop.turn(float(second))
    file = folder(served.home, "pills") / "settings.json"
    file.write_text(json.dumps({"watch": {"every_seconds": 2}}))
    for second in range(3, 6):
        loop.turn(float(second))
    assert len(started) == 1


def test_settings_that_break_are_told_and_taken_up_again(served, loop, caplog):
    loop.turn(0.0)
    file = folder(served.home, "pills") / "settings.json"
    good = file.read_text()
    file.write_text("{")
    loop.turn(2.0)
    assert "is no JSON" in caplog.records[-1].facts["error"]
    file.write_text(good)
    served.send(20)
    loop.turn(4.0)
    assert status(served.home, "pills").watch.events == 20
