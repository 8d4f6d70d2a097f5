"""A run that is killed while it trains, and the same command again."""

import json
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from core.home import Home
from tests.spine_home import at_work, line, titrate, write_digits
from titrate.run import runs

pytestmark = pytest.mark.timeout(1500)
CHANGES = ("--set=train.images=2000", "--set=image_size=32", "--set=export.int8=false")


def _progress(home: Path) -> float:
    """The share of the training that is done."""
    files = list((home / "runs").glob("*/progress.json"))
    facts = json.loads(files[0].read_text()) if files else {"step": ""}
    return facts["done"] / facts["total"] if facts["step"] == "train" else 0.0


def test_killed_training_continues_with_the_same_command_and_leaves_no_orphan(tmp_path: Path) -> None:
    """At half of the steps, the checkpoint of the first epoch is there, however fast epochs are."""
    home, data = tmp_path / "home", write_digits(tmp_path / "data", classes=2)
    words = ("run", "pills", "--data", str(data), *CHANGES)
    process = subprocess.Popen(line(home, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while _progress(home) < 0.5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, left = psutil.wait_procs(at_work(home), timeout=20)
    assert [process.cmdline() for process in left] == []
    interrupted = runs(Home(home))[0]
    assert interrupted.status == "running"
    assert titrate(home, "releases").stdout.startswith("nothing is registered")
    done = titrate(home, *words, seconds=800)
    [record] = runs(Home(home))
    assert record.id == interrupted.id
    assert record.status == "succeeded", done.stderr
    trained = json.loads(next((home / "runs").glob("*/pipeline/*/train/trained/train.json")).read_text())
    assert trained["resumed_at"] > 0
