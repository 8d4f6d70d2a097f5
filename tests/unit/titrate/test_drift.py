"""`titrate drift status` over the real store of the feedback service and a release's own reference."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from click.testing import CliRunner

from core import reference
from core.errors import UserError
from core.events import Event, prediction_id
from core.home import Home
from core.objects import Store
from core.release import seal
from core.signing import ensure_keys
from core.verdict import Outcome
from serving.feedback.store import open_store
from titrate.cli import main
from titrate.drift import status
from titrate.stack.state import set_stable, wanted

ROWS, SIZE, CLASSES = 400, 4, ("red", "blue")


@pytest.fixture
def home(tmp_path):
    """A home that serves a release with a reference of two equally frequent classes."""
    home = Home(tmp_path / "home")
    private, _ = ensure_keys(home.keys)
    random = np.random.default_rng(0)
    description = reference.Reference(
        version=reference.VERSION,
        dataset="d",
        samples=tuple(map(str, range(ROWS))),
        labels=CLASSES,
        statistics=("brightness",),
        embedding_size=SIZE,
    )
    values = [random.normal(0, 1, (ROWS, size)).astype(np.float32) for size in (SIZE, 1)]
    folder = tmp_path / "release"
    folder.mkdir()
    reference.write(folder / reference.FOLDER, description, *values, np.arange(ROWS) % 2)
    digest = seal(folder, private)
    Store(str(home.objects)).publish(folder, f"releases/{digest}")
    set_stable(home, "pills", digest)
    return home


def send(home, number=200, *, brightness=0.0, blue=0.5, hours_ago=1.0, **changes):
    """Answered events of the served release."""
    random = np.random.default_rng(1)
    store = open_store(f"sqlite:///{home.root / 'events.db'}")
    base = {
        "release": wanted(home).stable["pills"],
        "arm": "stable",
        "workload": "pills",
        "model_version": "1",
        "at": datetime.now(UTC) - timedelta(hours=hours_ago),
        "outcome": "ok",
        "probability": 0.9,
        "labels": list(CLASSES),
        "probabilities": [0.9, 0.1],
        "abstain": False,
        "latency_ms": 5.0,
        "item": 0,
    }
    rows = []
    for place in range(number):
        request = f"r{hours_ago}-{brightness}-{place}-{changes.get('arm', '')}"
        event = {
            **base,
            "request_id": request,
            "prediction_id": prediction_id(request, 0),
            "label": CLASSES[random.random() < blue],
            "embedding": random.normal(0, 1, SIZE).tolist(),
            "image": {"brightness": float(random.normal(brightness, 1))},
            **changes,
        }
        rows.append(Event.model_validate(event))
    store.add_events(rows)
    store.engine.dispose()


def test_inputs_like_the_reference_are_quiet(home):
    send(home)
    found = status(home, "pills")
    assert [one.verdict.outcome for one in found.findings] == [Outcome.PASS, Outcome.PASS]
    assert (found.events, found.score) == (200, 0.0)
    assert "nothing moved" in found.said


def test_darker_images_are_named_by_what_moved(home):
    send(home, brightness=-3)
    found = status(home, "pills")
    assert found.findings[0].verdict.outcome is Outcome.FAIL
    assert next(iter(found.findings[0].attribution)) == "brightness"
    assert found.score > found.retrain
    assert found.findings[1].verdict.outcome is Outcome.PASS
    assert "the images look different" in found.said and "above 0.3" in found.said


def test_another_mix_of_answers_is_told_apart_from_other_images(home):
    send(home, blue=0.95)
    found = status(home, "pills")
    assert [one.verdict.outcome for one in found.findings] == [Outcome.PASS, Outcome.FAIL]
    assert "the mix of answers is another one" in found.said


def test_what_the_window_leaves_out_is_not_counted(home):
    send(home)
    send(home, brightness=-3, hours_ago=30)
    send(home, brightness=-3, arm="candidate")
    send(home, brightness=-3, release="e" * 64)
    assert status(home, "pills").score == 0.0
    assert status(home, "pills", hours=48).events == 400


def test_few_events_conclude_nothing(home):
    send(home, 40, brightness=-3)
    found = status(home, "pills")
    assert found.score is None
    assert found.said.startswith("inconclusive: 40 complete events of 40")


def test_what_is_missing_is_named(home, tmp_path):
    with pytest.raises(UserError, match="there are no events"):
        status(home, "pills")
    with pytest.raises(UserError, match="no release of 'pills' serves"):
        status(Home(tmp_path / "other"), "pills")


def test_the_command_prints_a_table_and_the_word(home):
    send(home, brightness=-3)
    done = CliRunner().invoke(main, ["drift", "status", "--home", str(home.root)])
    assert done.exit_code == 0, done.output
    assert "200 events of the last 24 h" in done.output
    assert "brightness" in done.output and "drift score" in done.output
