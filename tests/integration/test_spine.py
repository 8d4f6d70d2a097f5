"""The spine as a user meets it: real scans become a served release by the default recipe."""

import json
import re
import resource
from pathlib import Path

import numpy as np
import pytest

from core.home import Home
from tests.spine_home import titrate, write_digits
from titrate.run import runs

pytestmark = pytest.mark.timeout(1500)


def _of_children() -> float:
    """Processor seconds of the ended children of this process, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A home with one release, made from the digits by the default recipe, and the processor seconds that took."""
    root = tmp_path_factory.mktemp("spine")
    before = _of_children()
    done = titrate(root / "home", "run", "pills", "--data", str(write_digits(root / "digits")), seconds=1200)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "stable" in done.stdout
    return root / "home", _of_children() - before


@pytest.fixture(scope="module")
def home(made: tuple[Path, float]) -> Path:
    return made[0]


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


def test_default_recipe_takes_less_than_five_minutes_of_two_cores(made: tuple[Path, float]) -> None:
    """In processor seconds, for the machine may do other things as well."""
    assert made[1] < 2 * 300


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
