"""References of releases and windows of events."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from core import reference
from core.errors import PermanentError, UserError
from core.events import Event
from core.files import sha256_bytes
from core.release import FILES
from serving.drift import sample
from serving.drift.sample import UNKNOWN

DESCRIPTION = reference.Reference(
    version=reference.VERSION,
    dataset="d1",
    samples=("one", "two", "three"),
    labels=("round", "oval"),
    statistics=("shape_ratio",),
    embedding_size=2,
)
DIGEST = sha256_bytes(b"{}")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    (tmp_path / FILES).write_text("{}")
    (tmp_path / reference.FOLDER).mkdir()
    embeddings, statistics = np.ones((3, 2), np.float32), np.zeros((3, 1), np.float32)
    reference.write(tmp_path / reference.FOLDER, DESCRIPTION, embeddings, statistics, np.array([0, 1, 1]))
    return tmp_path


def event(**changes: object) -> Event:
    values: dict[str, object] = {
        "prediction_id": "r-0",
        "request_id": "r",
        "item": 0,
        "workload": "pills",
        "release": DIGEST,
        "model_version": "1",
        "arm": "stable",
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "outcome": "ok",
        "label": "oval",
        "embedding": (0.5, 0.25),
        "image": {"shape_ratio": 0.75},
        "latency_ms": 1.0,
    }
    return Event.model_validate(values | changes)


def test_a_release_gives_its_reference(release: Path) -> None:
    found = sample.of_release(release, DIGEST)
    assert found.columns == ("embedding_0", "embedding_1", "shape_ratio")
    np.testing.assert_array_equal(found.values, [[1, 1, 0]] * 3)
    assert (found.predictions.tolist(), found.classes) == ([0, 1, 1], ("round", "oval"))


def test_a_reference_of_another_release_is_refused(release: Path) -> None:
    with pytest.raises(PermanentError, match="not 'another'"):
        sample.of_release(release, "another")


def test_a_damaged_reference_is_refused(release: Path) -> None:
    path = release / reference.FOLDER / reference.PREDICTIONS
    np.save(path, np.zeros(2, np.int64))
    with pytest.raises(PermanentError, match=r"shape \(2,\) instead of \(3,\)"):
        sample.of_release(release, DIGEST)
    np.save(path, np.array([object()] * 3), allow_pickle=True)
    with pytest.raises(PermanentError, match="export the release again"):
        sample.of_release(release, DIGEST)


def test_another_version_of_the_layout_is_refused(release: Path) -> None:
    newer = DESCRIPTION.model_copy(update={"version": 99})
    (release / reference.FOLDER / reference.DESCRIPTION).write_text(newer.model_dump_json())
    with pytest.raises(PermanentError, match="version 99"):
        sample.of_release(release, DIGEST)


def test_events_become_rows_and_what_they_lack_is_nan(release: Path) -> None:
    like = sample.of_release(release, DIGEST)
    events = [event(), event(embedding=None, label="square"), event(image={}), event(outcome="bad_image")]
    window = sample.of_events(events, like)
    np.testing.assert_array_equal(window.values, [[0.5, 0.25, 0.75], [np.nan, np.nan, 0.75], [0.5, 0.25, np.nan]])
    assert window.predictions.tolist() == [1, UNKNOWN, 1]
    assert sample.of_events([], like).values.shape == (0, 3)


def test_events_of_another_release_are_refused(release: Path) -> None:
    with pytest.raises(UserError, match="'r2'"):
        sample.of_events([event(release="r2")], sample.of_release(release, DIGEST))
