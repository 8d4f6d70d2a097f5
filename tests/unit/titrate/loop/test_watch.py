"""The watch over the real store: alarms, their cause and place, restarts, labels, another release."""

from datetime import timedelta

import pytest

from core.errors import PermanentError
from serving.drift.monitor import Settings
from titrate.loop import watch
from titrate.loop.watch import DriftWatch

SETTINGS = Settings(every_seconds=60, together=1)


def looks(served, number, start=0, **how):
    """So many updates with 20 events each; the turn of the last, or of the first that raised an alarm."""
    drift = DriftWatch(served.home, "pills", SETTINGS)
    for place in range(number):
        served.send(**how)
        turn = drift.update(served.release, served.now + timedelta(minutes=start + place))
        if turn.raised:
            return turn
    return turn


def test_quiet_events_are_counted_once_and_raise_nothing(served):
    looks(served, 1)
    state = looks(served, 20, start=1).state
    assert (state.updates, state.events, state.alarm) == (21, 400, None)
    assert watch.alarms(served.home, "pills") == []


def test_darker_images_raise_an_alarm_that_names_camera_column_and_begin(served):
    looks(served, 10)
    raised = looks(served, 20, start=10, brightness=-3).raised
    assert raised is not None
    assert raised.causes == ("camera change",)
    assert next(iter(raised.columns)) == "brightness"
    assert raised.events <= 200
    assert watch.alarms(served.home, "pills") == [raised]
    assert "brightness" in raised.said


def test_wrong_labels_raise_a_quality_drop_though_no_image_moved(served):
    looks(served, 3)
    raised = looks(served, 20, start=3, label=lambda answer: "blue" if answer == "red" else "red").raised
    assert raised is not None and raised.causes == ("quality drop",)


def test_labels_that_come_late_are_counted_when_they_come(served):
    from core.events import Label

    looks(served, 1)
    served.send(60)
    drift = DriftWatch(served.home, "pills", SETTINGS)
    assert drift.update(served.release, served.now + timedelta(minutes=5)).raised is None
    with served.store.reading() as connection:
        rows = connection.exec_driver_sql("select prediction_id, label from events order by seq desc limit 60").all()
    wrong = {"red": "blue", "blue": "red"}
    served.store.add_labels([Label(prediction_id=key, label=wrong[answer]) for key, answer in rows])
    later = drift.update(served.release, served.now + timedelta(minutes=6))
    assert later.raised is not None and later.raised.causes == ("quality drop",)


def test_a_restart_in_the_middle_of_a_window_changes_nothing(served):
    looks(served, 5, brightness=-0.5)
    known = watch.load(served.home, "pills")
    again = DriftWatch(served.home, "pills", SETTINGS).update(served.release, served.now + timedelta(minutes=6)).state
    assert again.evidence == known.evidence and again.seq == known.seq


def test_a_candidates_answers_and_refused_images_are_not_counted(served):
    looks(served, 1)
    served.send(50, brightness=-5, arm="candidate")
    served.send(50, brightness=-5, outcome="bad_image", label=None)
    state = DriftWatch(served.home, "pills", SETTINGS).update(served.release, served.now + timedelta(minutes=2)).state
    assert state.events == 0


def test_an_alarm_closes_after_a_quiet_window(served):
    looks(served, 2)
    looks(served, 20, start=2, brightness=-3)
    drift = DriftWatch(served.home, "pills", SETTINGS)
    assert drift.update(served.release, served.now + timedelta(hours=23)).state.alarm is not None
    assert drift.update(served.release, served.now + timedelta(hours=26)).state.alarm is None


def test_a_change_that_goes_on_is_one_alarm_and_another_cause_is_another(served):
    looks(served, 2)
    looks(served, 20, start=2, brightness=-3)
    for part in range(3):
        assert looks(served, 15, start=20 + 15 * part, brightness=-3).raised is None
    assert len(watch.alarms(served.home, "pills")) == 1
    assert watch.load(served.home, "pills").alarm_seen > watch.alarms(served.home, "pills")[0].raised_at
    wrong = looks(served, 20, start=90, brightness=-3, label=lambda answer: "blue" if answer == "red" else "red").raised
    assert wrong is not None and "quality drop" in wrong.causes
    assert len(watch.alarms(served.home, "pills")) == 2


def test_other_settings_begin_anew(served):
    looks(served, 5)
    other = DriftWatch(served.home, "pills", SETTINGS.model_copy(update={"tolerance": 0.1}))
    assert other.update(served.release, served.now + timedelta(hours=1)).state.updates == 1


def test_a_changed_alarm_log_is_found(served):
    looks(served, 2)
    looks(served, 20, start=2, brightness=-3)
    looks(served, 20, start=30, brightness=-3, label=lambda answer: "blue" if answer == "red" else "red")
    log = served.home.root / "loop" / "pills" / "drift.jsonl"
    log.write_text(log.read_text().replace("camera change", "label shift", 1))
    with pytest.raises(PermanentError, match="line 2"):
        watch.alarms(served.home, "pills")
