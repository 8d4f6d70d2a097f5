"""A home that serves a release with a reference, and events of it in the real store."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from core import reference
from core.dataset import Dataset
from core.events import Event, Label, prediction_id
from core.home import Home
from core.lineage import Lineage
from core.objects import Store
from core.release import seal
from core.signing import ensure_keys
from serving.feedback.store import open_store
from titrate.run import RunRecord
from titrate.stack.state import set_stable, wanted

ROWS, SIZE, CLASSES = 400, 4, ("red", "blue")
NOW = datetime.now(UTC)


class Served:
    """The home, and a hand to fill its events."""

    def __init__(self, home):
        self.home, self.now = home, NOW
        self.release = wanted(home).stable["pills"]
        self.store = open_store(f"sqlite:///{home.root / 'events.db'}")
        self._sent = 0
        self._random = np.random.default_rng(1)

    def send(self, number=20, *, brightness=0.0, blue=0.5, label=None, hours_ago=0.0, **changes):
        """Answered events; with `label` their labels too."""
        rows = []
        for _ in range(number):
            self._sent += 1
            request = f"r{self._sent}"
            event = {
                "release": self.release,
                "arm": "stable",
                "workload": "pills",
                "model_version": "1",
                "at": NOW - timedelta(hours=hours_ago),
                "outcome": "ok",
                "probability": 0.9,
                "labels": list(CLASSES),
                "probabilities": [0.9, 0.1],
                "abstain": False,
                "latency_ms": 5.0,
                "item": 0,
                "request_id": request,
                "prediction_id": prediction_id(request, 0),
                "label": CLASSES[self._random.random() < blue],
                "embedding": self._random.normal(0, 1, SIZE).tolist(),
                "image": {"brightness": float(self._random.normal(brightness, 1))},
                **changes,
            }
            rows.append(Event.model_validate(event))
        self.store.add_events(rows)
        if label:
            self.store.add_labels([Label(prediction_id=row.prediction_id, label=label(row.label)) for row in rows])


@pytest.fixture
def source(tmp_path):
    """The data of the run that made the release: 40 images."""
    folder = tmp_path / "images"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(20):
            (folder / name / f"{number}.png").touch()
    return folder


@pytest.fixture
def served(tmp_path, source):
    home = Home(tmp_path / "home")
    private, _ = ensure_keys(home.keys)
    random = np.random.default_rng(0)
    dataset = Dataset.write(tmp_path / "dataset", [], workload="pills", image_size=32, synthetic=True, source="images")
    table = dataset.info.model_copy(update={"rows": 38, "quarantined": 2})
    (tmp_path / "dataset" / "dataset.json").write_text(table.model_dump_json())
    Store(str(home.objects)).publish(tmp_path / "dataset", f"datasets/{table.digest}")
    description = reference.Reference(
        version=reference.VERSION,
        dataset=table.digest,
        samples=tuple(map(str, range(ROWS))),
        labels=CLASSES,
        statistics=("brightness",),
        embedding_size=SIZE,
    )
    folder = tmp_path / "release"
    folder.mkdir()
    values = [random.normal(0, 1, (ROWS, size)).astype(np.float32) for size in (SIZE, 1)]
    reference.write(folder / reference.FOLDER, description, *values, np.arange(ROWS) % 2)
    facts = {"run": "run-1", "workload": "pills", "dataset": table.digest, "config": "c", "code": "c"}
    lineage = Lineage(**facts, environment="e", seed=0, created_at=NOW)
    (folder / "lineage.json").write_text(lineage.model_dump_json())
    digest = seal(folder, private)
    Store(str(home.objects)).publish(folder, f"releases/{digest}")
    set_stable(home, "pills", digest)
    record = RunRecord(
        id="run-1",
        workload="pills",
        source=str(source),
        command="c",
        status="succeeded",
        started_at=NOW,
        release=digest,
    )
    (home.runs / "run-1").mkdir(parents=True)
    (home.runs / "run-1" / "run.json").write_text(record.model_dump_json())
    (home.runs / "run-1" / "config.json").write_text('{"recipe": "demo"}')
    found = Served(home)
    yield found
    found.store.engine.dispose()
