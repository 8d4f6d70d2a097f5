"""The spine as a user meets it: real scans become a served release by the default recipe.

The run is killed while it trains, and goes on with the same command: one long run shows both.
"""

import json
import re
import resource
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest

from core.home import Home
from tests.spine_home import at_work, line, titrate, write_digits
from titrate.run import runs

pytestmark = pytest.mark.timeout(1500)


class Made(NamedTuple):
    """A home with one release, and how it came to be."""

    home: Path
    processor_seconds: float
    """Of both attempts."""
    left: list[list[str]]
    """Command lines of what a killed run left at work."""
    interrupted: str
    """Id of the killed run."""
    before: str
    """What `titrate releases` said then."""


def _progress(home: Path) -> float:
    """The share of the training that is done."""
    files = list((home / "runs").glob("*/progress.json"))
    facts = json.loads(files[0].read_text()) if files else {"step": ""}
    return facts["done"] / facts["total"] if facts["step"] == "train" else 0.0


def _spent(process: psutil.Process) -> float:
    """Processor seconds of a process, of its ended children and of those that run."""
    return sum(sum(one.cpu_times()[:4]) for one in (process, *process.children(recursive=True)))


def _of_children() -> float:
    """Processor seconds of the ended children of this process, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The digits by the default recipe: killed at half of the training's steps, then the same command again."""
    root = tmp_path_factory.mktemp("spine")
    home, words = root / "home", ("run", "pills", "--data", str(write_digits(root / "digits")))
    process = subprocess.Popen(line(home, *words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while _progress(home) < 0.5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    spent = _spent(psutil.Process(process.pid))
    process.kill()
    process.wait()
    before = _of_children()
    _, left = psutil.wait_procs(at_work(home), timeout=20)
    interrupted = runs(Home(home))[0]
    assert interrupted.status == "running"
    said = titrate(home, "releases").stdout
    done = titrate(home, *words, seconds=1200)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "stable" in done.stdout
    spent += _of_children() - before
    return Made(home, spent, [process.cmdline() for process in left], interrupted.id, said)


@pytest.fixture(scope="module")
def home(made: Made) -> Path:
    return made.home


@pytest.fixture
def stack(home: Path):
    """The stack of that home, up."""
    up = titrate(home, "stack", "up")
    assert up.returncode == 0, up.stderr
    yield json.loads(titrate(home, "stack", "status", "--json").stdout)
    assert titrate(home, "stack", "down").returncode == 0


def _release(home: Path) -> Path:
    return next(path for path in (home / "releases").iterdir() if not path.name.startswith("."))


def test_default_recipe_learns_the_digits(home: Path) -> None:
    metrics = json.loads((_release(home) / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert metrics["accuracy"]["value"] >= 0.95
    assert metrics["accuracy"]["low"] < metrics["accuracy"]["value"] <= metrics["accuracy"]["high"]


def test_default_recipe_takes_less_than_five_minutes_of_two_cores(made: Made) -> None:
    """In processor seconds, for the machine may do other things as well; what the killed attempt lost is in them."""
    assert made.processor_seconds < 2 * 300


def test_killed_training_continued_with_the_same_command_and_left_no_orphan(made: Made) -> None:
    assert made.left == []
    assert made.before.startswith("nothing is registered")
    [record] = runs(Home(made.home))
    assert (record.id, record.status) == (made.interrupted, "succeeded")
    trained = json.loads(next((made.home / "runs").glob("*/pipeline/*/train/trained/train.json")).read_text())
    assert trained["resumed_at"] > 0


def test_report_and_card_tell_the_whole_story(home: Path) -> None:
    record = runs(Home(home))[0]
    page = Path(record.report).read_text()
    for section in ("Data", "Learning", "Metrics of the exported model", "Steps", "Lineage"):
        assert f"<h2>{section}</h2>" in page
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?http""", page), "the page fetches something"
    assert 'src="data:image/' in page
    shown = titrate(home, "releases", "show", "pills:stable").stdout
    assert "signature  verifies" in shown
    assert "MobileDeepPill" in shown
    assert record.id in shown


def test_steps_leave_their_reports_for_a_dashboard(home: Path) -> None:
    validation = next((home / "runs").glob("*/pipeline/*/validate/**/report.html")).read_text()
    assert "This data can be learned from" in validation
    assert list((home / "runs").glob("*/pipeline/*/split/parts/split.json"))


def test_release_answers_through_envoy_over_rest_and_grpc(home: Path, stack: list[dict[str, str]]) -> None:
    import tritonclient.grpc
    import tritonclient.http

    address = next(s["address"] for s in stack if s["name"] == "envoy").removeprefix("http://")
    image = next((home.parent / "digits" / "3").iterdir())
    answers = []
    for module in (tritonclient.http, tritonclient.grpc):
        client = module.InferenceServerClient(address)
        given = module.InferInput("image", [1, 1], "BYTES")
        given.set_data_from_numpy(np.array([[image.read_bytes()]], dtype=object))
        answer = client.infer("pills", [given])
        answers.append({name: answer.as_numpy(name)[0] for name in ("label", "probability", "release", "embedding")})
        client.close()
    assert answers[0]["label"] == answers[1]["label"] == [b"3"]
    assert answers[0]["release"][0].decode() == _release(home).name
    np.testing.assert_allclose(answers[0]["embedding"], answers[1]["embedding"], atol=1e-5)
    np.testing.assert_allclose(answers[0]["probability"], answers[1]["probability"], atol=1e-5)


def test_predict_answers_for_people_and_programs(home: Path, stack: list[dict[str, str]]) -> None:
    images = [str(next((home.parent / "digits" / str(digit)).iterdir())) for digit in (1, 7)]
    found = [json.loads(line) for line in titrate(home, "predict", *images, "--json").stdout.splitlines()]
    assert [answer["label"] for answer in found] == ["1", "7"]
    assert all(0 < answer["probability"] <= 1 and answer["release"] == _release(home).name for answer in found)
    text = home.parent / "not an image.txt"
    text.write_text("hello")
    bad = titrate(home, "predict", images[0], str(text))
    assert bad.returncode == 2
    assert "not_an_image" in bad.stdout


def test_one_flipped_byte_is_refused_and_named(home: Path) -> None:
    network = _release(home) / "pills" / "1" / "network.onnx"
    content = network.read_bytes()
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    network.write_bytes(changed)
    try:
        up = titrate(home, "stack", "up")
    finally:
        network.write_bytes(content)
    assert up.returncode == 4
    assert "'pills/1/network.onnx' was changed" in up.stderr
    assert titrate(home, "stack", "status").stdout.startswith("nothing runs")


def test_gc_keeps_what_serves(home: Path) -> None:
    listed = titrate(home, "gc")
    assert listed.returncode == 0, listed.stderr
    assert _release(home).name not in listed.stdout
    assert titrate(home, "gc", "--remove").returncode == 0
    assert "nothing to remove" in titrate(home, "gc").stdout
    assert "pills" in titrate(home, "releases").stdout
