"""Runs that must not end in a release: bad data, a model that learned nothing, the same command twice at once."""

import subprocess
import time
from pathlib import Path

import pytest

from core.home import Home
from tests.spine_home import QUICK, line, titrate, write_noise
from titrate.run import runs

pytestmark = pytest.mark.timeout(1500)


def test_twelve_percent_corrupt_images_stop_the_run_with_the_list(tmp_path: Path) -> None:
    data = write_noise(tmp_path / "data", labels=2, images=50)
    corrupt = sorted(data.rglob("*.png"))[:12]
    for path in corrupt:
        path.write_bytes(path.read_bytes()[:60])
    done = titrate(tmp_path / "home", "run", "pills", "--data", str(data))
    assert done.returncode == 3
    assert "good rows >= 90%" in done.stderr
    assert all(path.name in done.stderr for path in corrupt)
    assert "Traceback" not in done.stderr
    report = next((tmp_path / "home" / "runs").glob("*/pipeline/*/validate/**/report.html")).read_text()
    assert "The run stops" in report
    assert titrate(tmp_path / "home", "releases").stdout.startswith("nothing is registered")


def test_a_failed_gate_ends_red_and_registers_nothing_and_the_same_run_is_refused_meanwhile(tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = ("run", "pills", "--data", str(write_noise(tmp_path / "data")), *QUICK)
    with subprocess.Popen(line(home, *words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as first:
        deadline = time.monotonic() + 120
        while not list((home / "runs").glob("*/arguments.json")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        second = titrate(home, *words)
        _, errors = first.communicate(timeout=900)
    assert second.returncode == 2
    assert "is going on in another process" in second.stderr
    assert first.returncode == 2
    assert "accuracy >= 0.90: " in errors
    record = runs(Home(home))[0]
    assert record.status == "failed"
    assert "accuracy" in Path(record.report).read_text()
    assert not list((home / "objects" / "releases").glob("*"))
    assert titrate(home, "releases").stdout.startswith("nothing is registered")
