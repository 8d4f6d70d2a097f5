"""Inputs beyond the reference's 95 % quantile, counted by arm over the real store of the feedback service."""

from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from core import reference
from core.events import Event, prediction_id
from core.home import Home
from core.objects import Store
from core.release import seal
from core.signing import ensure_keys
from core.slo import Slo
from core.verdict import Outcome
from serving.feedback.store import open_store
from serving.rollout.engine import begin, decide
from serving.rollout.observations import Observation, RouterReport, Weights
from serving.rollout.presets import preset
from serving.rollout.state import Phase
from titrate.rollouts.drift_counts import DriftCounts
from titrate.rollouts.event_counts import EventCounts

ROWS, SIZE = 400, 4
LIKE, FAR = 0.0, 6.0
"""Mean of the embeddings of inputs like the reference, and of drifted ones; their standard deviation is 1."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("drift"))


@pytest.fixture(scope="module")
def releases(home, tmp_path_factory):
    """Digests of two releases with references, and of one without."""
    private, _ = ensure_keys(home.keys)
    return [published(home, private, tmp_path_factory.mktemp("release"), seed) for seed in (0, 1, None)]


def published(home, private, folder, seed):
    (folder / "card.md").write_text(f"release {seed}")
    if seed is not None:
        random = np.random.default_rng(seed)
        description = reference.Reference(
            version=reference.VERSION,
            dataset="d",
            samples=tuple(map(str, range(ROWS))),
            labels=("red", "blue"),
            statistics=("texture_contrast",),
            embedding_size=SIZE,
        )
        values = [random.normal(LIKE, 1, (ROWS, size)).astype(np.float32) for size in (SIZE, 1)]
        reference.write(folder / reference.FOLDER, description, *values, np.zeros(ROWS, np.int64))
    digest = seal(folder, private)
    Store(str(home.objects)).publish(folder, f"releases/{digest}")
    return digest


@pytest.fixture
def store(home):
    (home.root / "events.db").unlink(missing_ok=True)
    opened = open_store(home.events)
    yield opened
    opened.engine.dispose()


def spec_of(stable, candidate):
    return preset("canary", workload="pills", stable=stable, candidate=candidate, slo=Slo.load("pills"), labels=False)


class Inputs:
    """Events of both arms."""

    def __init__(self, store):
        self.store, self.random, self.number = store, np.random.default_rng(7), 0

    def answered(self, arm, release, mean, count=200):
        events = []
        for row in self.random.normal(mean, 1, (count, SIZE + 1)):
            self.number += 1
            events.append(
                Event(
                    prediction_id=prediction_id(f"r{self.number}", 0),
                    request_id=f"r{self.number}",
                    item=0,
                    workload="pills",
                    release=release,
                    model_version="1",
                    arm=arm,
                    at=datetime(2026, 1, 1, tzinfo=UTC),
                    outcome="ok",
                    label="red",
                    embedding=tuple(row[:SIZE]),
                    image={"texture_contrast": row[SIZE]},
                    latency_ms=5.0,
                )
            )
        self.store.add_events(events)


def counted(home):
    return DriftCounts(home, EventCounts(home).engine)


def shares(readings):
    return {reading.arm: reading.counts["drift"][0] / sum(reading.counts["drift"]) for reading in readings}


def test_each_arm_is_measured_by_its_own_reference(home, releases, store):
    spec, counts, inputs = spec_of(*releases[:2]), counted(home), Inputs(store)
    inputs.answered("stable", spec.stable, FAR, count=50)  # before the rollout
    assert [reading.counts for reading in counts.readings(spec, 1)] == [{"drift": (0, 0)}] * 2
    inputs.answered("stable", spec.stable, LIKE)
    inputs.answered("candidate", spec.candidate, FAR)
    inputs.answered("tester", spec.candidate, LIKE)
    found = counts.readings(spec, 2)
    assert [sum(reading.counts["drift"]) for reading in found] == [200, 200]
    assert shares(found)["stable"] < 0.15
    assert shares(found)["candidate"] > 0.95
    assert counts.readings(spec, 3)[0].counts == found[0].counts, "an event is counted once"


def test_an_input_that_lacks_a_number_is_beyond(home, releases, store):
    spec, counts, inputs = spec_of(*releases[:2]), counted(home), Inputs(store)
    counts.readings(spec, 1)
    inputs.random = SimpleNamespace(normal=lambda mean, _, shape: np.full(shape, mean))
    inputs.answered("stable", spec.stable, LIKE, count=10)
    assert counts.readings(spec, 2)[0].counts["drift"] == (0, 10)
    with store.engine.begin() as connection:
        connection.exec_driver_sql("update events set seq = seq + 1000, image = '{}'")
    assert counts.readings(spec, 3)[0].counts["drift"] == (10, 10)


def test_a_release_without_a_reference_counts_nothing_and_says_so_once(home, releases, store, caplog):
    spec, counts = spec_of(releases[0], releases[2]), counted(home)
    assert counts.readings(spec, 1) == counts.readings(spec, 2) == []
    assert [record.message for record in caplog.records] == ["drift of the arms is not counted"]


@pytest.mark.parametrize(("stable", "end"), [(LIKE, "rolled back"), (FAR, "alert")])
def test_drift_of_one_arm_is_a_regression_and_of_both_an_alert(home, releases, store, stable, end):
    """From events to the engine's decision."""
    spec, counts, inputs = spec_of(*releases[:2]), counted(home), Inputs(store)
    state = begin(spec, "r").model_copy(
        update={"phase": Phase.STEPPING, "step": 1, "weight": 5, "stable_spec": {}, "started": True}
    )
    router = RouterReport(weights=Weights(stable=95, candidate=5), shadow=0)
    told = []
    for look in range(1, 8):
        readings = tuple(counts.readings(spec, look))
        seen = Observation(sequence=look, at=2.0 * look, router=router, readings=readings)
        decision = decide(spec, state, [seen])
        state = decision.state
        told += [notice.event for notice in state.notices]
        inputs.answered("stable", spec.stable, stable, count=60)
        inputs.answered("candidate", spec.candidate, FAR, count=60)
    if end == "alert":
        assert (state.phase, state.alerted) == (Phase.STEPPING, True)
        assert "alert" in told
        assert all(v.outcome is not Outcome.FAIL for v in decision.verdicts if v.question.startswith("drift"))
    else:
        assert state.phase is Phase.RESTORING
        assert state.reason.startswith("drift")
