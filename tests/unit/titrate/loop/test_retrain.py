"""The controller over real files: what it observes, when it begins, what it records, how it ends."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from core.errors import UserError
from titrate.loop import jobs, retrain
from titrate.loop.retrain import Retraining, ask
from titrate.loop.settings import folder, settings
from titrate.loop.watch import Alarm


@pytest.fixture
def begun(monkeypatch):
    """Processes that would train: what the controller starts, as stand-ins that say whether they live."""

    class Process:
        code = None

        def poll(self):
            return self.code

    started = []

    def begin(home, job):
        jobs.save(home, job.model_copy(update={"attempts": job.attempts + 1}))
        started.append(Process())
        return started[-1]

    monkeypatch.setattr(jobs, "begin", begin)
    return started


def alarm(served):
    facts = {"workload": "pills", "release": served.release, "causes": ("camera change",), "reason": "r", "events": 9}
    return Alarm(**facts, raised_at=served.now, began=served.now, columns={"brightness": 0.9}, classes={})


def asked(served, **retraining):
    file = folder(served.home, "pills") / "settings.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"retraining": {"min_new": 10, "cooldown_hours": 0, **retraining}}))
    return settings(served.home, "pills")


def photograph(source, number):
    for place in range(number):
        (source / "red" / f"new-{place}.png").touch()


def turn(served, controller, how, minutes=0.0, **given):
    found = {"score": None, "alarm": None, **given}
    return controller.turn(how, served.release, found["score"], found["alarm"], served.now + timedelta(minutes=minutes))


def test_drift_without_new_data_waits_and_says_so(served, begun):
    look = turn(served, Retraining(served.home, "pills"), asked(served), alarm=alarm(served))
    assert "0 of 10 new samples" in look.kept.reason
    assert not begun and jobs.all_jobs(served.home, "pills") == []


def test_drift_with_new_data_begins_a_job_that_records_what_it_stands_on(served, begun, source):
    photograph(source, 15)
    controller, how = Retraining(served.home, "pills"), asked(served)
    turn(served, controller, how, alarm=alarm(served))
    turn(served, controller, how, minutes=1)
    [job] = jobs.all_jobs(served.home, "pills")
    assert len(begun) == 1
    assert (job.trigger, job.base, job.source, job.samples) == ("drift", served.release, str(source), 55)
    assert "camera change" in job.why
    assert json.loads(Path(job.config).read_text())["recipe"] == "demo"
    entries = (served.home.root / "audit.jsonl").read_text()
    assert "retraining_began" in entries and job.id in entries


def test_one_job_at_a_time_and_a_killed_one_is_started_again_at_most_twice(served, begun, source):
    photograph(source, 15)
    controller, how = Retraining(served.home, "pills"), asked(served, look_hours=0.01)
    for minute in range(10):
        look = turn(served, controller, how, minutes=minute, alarm=alarm(served))
        if begun:
            begun[-1].code = -9
        if look.ended:
            break
    assert len(begun) == jobs.ATTEMPTS
    assert look.ended.status == "failed" and "died 3 times" in look.ended.error
    assert look.kept.state.failures == 1 and look.kept.state.pending is not None
    assert look.kept.job is None


def test_a_controller_that_was_killed_takes_its_job_up_again(served, begun, source):
    photograph(source, 15)
    how = asked(served)
    first = Retraining(served.home, "pills")
    turn(served, first, how, alarm=alarm(served))
    turn(served, first, how, minutes=1)
    turn(served, Retraining(served.home, "pills"), how, minutes=2)
    assert len(begun) == 2
    assert [job.attempts for job in jobs.all_jobs(served.home, "pills")] == [2]


def test_by_hand_needs_neither_data_nor_a_trigger(served, begun):
    ask(served.home, "pills", "ada", "a recall")
    controller = Retraining(served.home, "pills")
    look = turn(served, controller, asked(served))
    assert look.kept.job
    [job] = jobs.all_jobs(served.home, "pills")
    assert (job.trigger, job.why) == ("by hand", "a recall (ada)")
    with pytest.raises(UserError, match="goes on already"):
        ask(served.home, "pills", "ada", "again")


def test_labels_below_the_ladder_are_a_trigger(served, begun):
    served.send(120, label=lambda answer: "blue" if answer == "red" else "red")
    look = turn(served, Retraining(served.home, "pills"), asked(served))
    assert look.kept.counted == (120, 0)
    assert "accuracy 0.000 of 120 labels < 0.88" in look.kept.reason


def test_a_release_from_elsewhere_needs_a_source(served, begun):
    (served.home.runs / "run-1" / "run.json").unlink()
    with pytest.raises(UserError, match="name its data as 'source'"):
        turn(served, Retraining(served.home, "pills"), asked(served))


def test_the_loop_can_be_told_to_watch_only(served, begun, source):
    photograph(source, 15)
    how = asked(served).model_copy(update={"automatic": False})
    turn(served, Retraining(served.home, "pills"), how, alarm=alarm(served))
    assert jobs.all_jobs(served.home, "pills") == [] and retrain.load(served.home, "pills").new_samples is None


def test_the_best_of_a_sweep_can_be_what_it_trains_by(served, begun, tmp_path):
    best = tmp_path / "best.json"
    best.write_text('{"recipe": "resnet18", "train": {"lr": 0.07}}')
    controller, how = Retraining(served.home, "pills"), asked(served).model_copy(update={"config": str(best)})
    ask(served.home, "pills", "ada", "a better one")
    turn(served, controller, how)
    [job] = jobs.all_jobs(served.home, "pills")
    assert json.loads(Path(job.config).read_text())["train"]["lr"] == 0.07


def test_a_configuration_that_is_not_there_begins_nothing(served, begun, tmp_path):
    how = asked(served).model_copy(update={"config": str(tmp_path / "best.json")})
    ask(served.home, "pills", "ada", "a better one")
    with pytest.raises(UserError, match="cannot read the run configuration"):
        turn(served, Retraining(served.home, "pills"), how)
    assert jobs.all_jobs(served.home, "pills") == []
    (tmp_path / "best.json").write_text('{"recipe": "demo"}')
    assert turn(served, Retraining(served.home, "pills"), how, minutes=1).kept.job, "the request was lost"


def test_settings_that_make_no_sense_are_refused_by_name(served):
    file = folder(served.home, "pills") / "settings.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    for text, word in (('{"retraning": {}}', "retraining"), ("[]", "holds no object"), ("{", "is no JSON")):
        file.write_text(text)
        with pytest.raises(UserError, match=word):
            settings(served.home, "pills")
