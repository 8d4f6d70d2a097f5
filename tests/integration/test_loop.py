"""The loop closes on the real engines: a camera breaks, the loop says so, learns it and rolls the release out."""

import json
import time
from pathlib import Path

import pytest

from core.home import Home
from tests.spine_home import QUICK, titrate, write_digits
from titrate.load import Load
from titrate.loop import retrain, watch
from titrate.loop.jobs import all_jobs
from titrate.loop.settings import folder
from titrate.run import runs
from titrate.simulate import Simulated, broken
from titrate.stack.state import serving

pytestmark = pytest.mark.timeout(900)
WITHIN, TRAINED_WITHIN = 60.0, 420.0
CAMERA = Simulated(kind="dark", level=5)
SETTINGS = {
    "watch": {"every_seconds": 1},
    "retraining": {"look_hours": 1 / 3600, "min_new": 300, "cooldown_hours": 0},
    "rollout": {"weights": [50, 100], "bake_seconds": 1, "min_requests": 30},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("loop") / "digits", classes=4)


@pytest.fixture(scope="module")
def home(data):
    """A home that serves what was learned of the scans, and watches it every second."""
    home = Home(data.parent / "home")
    words = [word.replace("images=400", "images=4000") for word in QUICK]
    done = titrate(home.root, "run", "pills", "--data", str(data), *words)
    assert done.returncode == 0, done.stderr
    folder(home, "pills").mkdir(parents=True)
    (folder(home, "pills") / "settings.json").write_text(json.dumps(SETTINGS))
    up = titrate(home.root, "stack", "up")
    assert up.returncode == 0, up.stderr
    yield home
    assert titrate(home.root, "stack", "down").returncode == 0


def until(condition, seconds=WITHIN):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.1)
    return found


def test_a_broken_camera_is_named_learned_and_rolled_out(home, data):
    first = serving(home)["pills"]
    until(lambda: watch.load(home, "pills"))
    images = broken(data, "pills", CAMERA)
    with Load(home, images, "pills") as load:
        [alarm, *_] = until(lambda: watch.alarms(home, "pills"))
    assert "camera change" in alarm.causes and alarm.release == first
    before = load.right / load.answered.total()
    until(lambda: "of 300 new samples" in retrain.load(home, "pills").reason)
    assert all_jobs(home, "pills") == []
    for number, (content, label) in enumerate(images):
        (data / label / f"dark-{number}.jpg").write_bytes(content)
    job = until(lambda: [job for job in all_jobs(home, "pills") if job.rollout], TRAINED_WITHIN)[0]
    assert job.trigger in ("drift", "accuracy") and job.base == first
    assert job.dataset and job.run == runs(home)[0].id
    with Load(home, images, "pills") as load:
        until(lambda: serving(home)["pills"] == job.release)
        until(lambda: all_jobs(home, "pills")[0].status == "promoted")
    with Load(home, images, "pills") as load:
        time.sleep(2)
    assert load.right / load.answered.total() > before + 0.2
    assert load.failed == 0
    assert "promoted" in titrate(home.root, "loop", "history").stdout
    page = titrate(home.root, "drift", "show").stdout.split()[-1]
    assert "camera change" in Path(page).read_text()
