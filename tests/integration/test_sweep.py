"""A sweep as a user meets it: its driver is killed, it goes on, one trial fails, and the best configuration runs."""

import json
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from core.home import Home
from tests.spine_home import at_work, line, titrate, write_digits
from titrate.configuration import configuration
from tuning.engine import PLACE
from tuning.records import ENDED, Journal
from tuning.result import SweepResult

LOST = 1e20
"""A learning rate with which the loss is lost at once."""
RATES = (0.05, 0.1, 0.2, LOST)
SHORT = ("--set=train.images=300", "--set=train.min_epochs=1", "--set=image_size=16", "--set=train.batch=16")


class Swept(NamedTuple):
    """A sweep that was killed and went on."""

    home: Path
    folder: Path
    ended: dict[int, tuple[object, int]]
    """The trials that had ended before the kill, and when their trainings were started."""
    left: list[list[str]]
    """Command lines of what the killed driver left at work."""
    found: SweepResult


def started(folder, below="trainings"):
    """When the training of each trial was last started, by its learning rate."""
    jobs = folder.glob(f"{below}/*/job.json")
    return {json.loads(json.loads(job.read_text())["config"])["train"]["lr"]: job.stat().st_mtime_ns for job in jobs}


def of_ray(place):
    """Processes of the Ray in the folder `place`."""
    every = psutil.process_iter(["cmdline"])
    return [process for process in every if any(place in word for word in process.info["cmdline"] or [])]


def space(path, rates):
    """A space of these learning rates, in a file."""
    path.write_text(json.dumps({"keys": {"train.lr": {"kind": "choice", "options": rates}}}))
    return path


def killed_in_the_middle(home, words):
    """Start the sweep and kill its driver while one trial has ended and another runs."""
    driver = subprocess.Popen(line(home, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while True:
        assert driver.poll() is None and time.monotonic() < deadline
        folders = list(Home(home).sweeps.glob("*"))
        journal = Journal(folders[0]) if folders else None
        if journal and journal.in_state(*ENDED) and journal.in_state("running"):
            break
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    return folders[0]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Four learning rates, one of them impossible, on 150 real scans of three digits."""
    root = tmp_path_factory.mktemp("sweep")
    home, digits = root / "home", write_digits(root / "all")
    for digit in "012":
        (root / "data" / digit).mkdir(parents=True)
        for scan in sorted((digits / digit).glob("*.png"))[:50]:
            shutil.copy(scan, root / "data" / digit)
    file = space(root / "space.json", RATES)
    words = ("tune", "pills", "--data", str(root / "data"), "--space", str(file), "--trials=4", *SHORT)
    folder = killed_in_the_middle(home, words)
    place = (folder / PLACE).read_text()
    _, left = psutil.wait_procs([*at_work(home), *of_ray(place)], timeout=20)
    times = started(folder)
    ended = {trial.number: (trial, times[trial.values["train.lr"]]) for trial in Journal(folder).in_state(*ENDED)}
    changed = space(root / "changed.json", RATES[:3])
    refused = titrate(home, "tune", "pills", "--resume", folder.name, "--space", str(changed))
    assert refused.returncode == 2
    assert "train.lr: 0.05 | 0.1 | 0.2 | 1e+20 became 0.05 | 0.1 | 0.2" in refused.stderr
    done = titrate(home, "tune", "pills", "--resume", folder.name)
    assert done.returncode == 0, done.stderr + done.stdout
    assert not Path(place).exists()
    shown = titrate(home, "tune", "show", folder.name, "--json")
    return Swept(home, folder, ended, [one.cmdline() for one in left], SweepResult.from_json(shown.stdout, "show"))


def test_a_killed_driver_leaves_no_process(swept):
    assert swept.left == []


def test_what_had_ended_is_not_run_again(swept):
    assert swept.ended
    times = started(swept.folder)
    for number, (trial, began) in swept.ended.items():
        again = swept.found.trial(number)
        assert again.model_copy(update={"latency_ms": None}) == trial.model_copy(update={"latency_ms": None})
        assert times[trial.values["train.lr"]] == began


def test_every_rate_was_tried_once_and_the_impossible_one_did_not_stop_the_sweep(swept):
    assert sorted(trial.values["train.lr"] for trial in swept.found.trials) == sorted(RATES)
    failed = [trial for trial in swept.found.trials if trial.state == "failed"]
    assert [trial.values["train.lr"] for trial in failed] == [LOST]
    assert "the loss is not a number" in failed[0].reason
    assert {trial.state for trial in swept.found.trials} <= ENDED


def test_the_best_configuration_is_one_that_titrate_run_takes(swept):
    best = swept.found.trial(swept.found.best)
    assert best.score == max(trial.score for trial in swept.found.trials if trial.state == "finished")
    config = configuration("pills", None, swept.found.config, ())
    assert config.train.lr == best.values["train.lr"]
    assert config.train.batch == 16
    assert config.image_size == 16


def test_every_trial_is_a_child_of_the_sweeps_mlflow_run(swept):
    with sqlite3.connect(swept.home / "mlflow.db") as database:
        parents = dict(database.execute("select run_uuid, name from runs where name = ?", (swept.folder.name,)))
        children = database.execute(
            "select t.value, p.value from tags t join params p on t.run_uuid = p.run_uuid "
            "where t.key = 'mlflow.parentRunId' and p.key = 'train.lr'"
        ).fetchall()
    assert len(parents) == 1
    assert {parent for parent, _ in children} == set(parents)
    assert sorted(float(rate) for _, rate in children) == sorted(RATES)


def test_checkpoints_stay_of_the_best_and_of_what_failed_alone(swept):
    kept = {
        json.loads(json.loads(p.read_text())["config"])["train"]["lr"] for p in swept.home.glob("work/train/*/job.json")
    }
    assert kept == {swept.found.trial(swept.found.best).values["train.lr"], LOST}
    assert not list(swept.folder.glob("**/*.pkl"))


def test_the_page_is_there(swept):
    assert "<svg" in Path(swept.found.report).read_text()
