"""The reconciler dies at every point there is, and each time the next one comes to the same end."""

import pytest

from core.slo import Slo
from serving.rollout import decision_log, journal
from serving.rollout.decision_log import replay
from serving.rollout.journal import Journal
from serving.rollout.metrics import of_slo
from serving.rollout.reconcile import Reconciler
from serving.rollout.spec import Confirm, Step
from serving.rollout.state import Phase
from tests.unit.serving.rollout.world import CrashError, Inline, World, broken, quick_spec

STEPS = (
    Step(shadow=50, bake_seconds=5, min_requests=20, deadline_seconds=4000),
    Step(weight=50, bake_seconds=5, min_requests=20, deadline_seconds=4000),
    Step(weight=100, bake_seconds=5, min_requests=20, deadline_seconds=4000),
)
ASK = Confirm(name="ward", url="http://ward/", before="promotion")


def _good() -> World:
    return World(rate=400)


def _harmful() -> World:
    world = _good()
    world.candidate_bad = {"errors": 0.6}
    return world


def _half_promoted() -> World:
    world = _good()
    world.failing["promoted"] = broken("registry")
    return world


SCENES = {
    "promoted": (_good, {"retire_stable": True, "confirms": (ASK,)}, Phase.PROMOTED),
    "rolled back": (_harmful, {}, Phase.ROLLED_BACK),
    "promotion failed": (_half_promoted, {}, Phase.ROLLED_BACK),
}


def _end(world, root, spec, monkeypatch):
    """Run to the end, starting a new reconciler after each crash; returns the last one and the number of crashes."""
    with monkeypatch.context() as patch:
        written = decision_log.append, journal.write_atomic

        def append(*args):
            world._call("before the log")
            written[0](*args)
            world._call("after the log")

        def write(path, content):
            written[1](path, content)
            if path.name == "state.json":
                world._call("after the state")

        patch.setattr(decision_log, "append", append)
        patch.setattr(journal, "write_atomic", write)
        made = Journal.create(root, spec)
        crashes = 0
        reconciler = Reconciler(made, (world,) * 4, lambda: world.now, Inline())
        for _ in range(400):
            try:
                reconciler.look()
            except CrashError:
                crashes += 1
                reconciler = Reconciler(Journal(made.folder), (world,) * 4, lambda: world.now, Inline())
            if reconciler.done:
                return reconciler, crashes
            world.pass_time()
    raise AssertionError(f"no end: {reconciler.state.phase} {reconciler.state.reason}")


def _left(world):
    return world.alias, world.arms["stable"], world.weights, world.mirrored, world.running


@pytest.mark.parametrize("scene", SCENES)
def test_crash_at_any_point_comes_to_the_same_end(scene, tmp_path, monkeypatch):
    build, changes, phase = SCENES[scene]
    spec = quick_spec(steps=STEPS, metrics=of_slo(Slo.load("pills"))[:1], **changes)
    reference = build()
    done, _ = _end(reference, tmp_path / "reference", spec, monkeypatch)
    assert done.state.phase is phase
    assert reference.calls[:3] == ["before the log", "after the log", "after the state"], "it acts before it writes"
    for point in range(1, len(reference.calls) + 1):
        world = build()
        world.crash_at = point
        done, crashes = _end(world, tmp_path / str(point), spec, monkeypatch)
        where = f"crash at call {point}, {reference.calls[point - 1]!r}"
        assert crashes == 1, where
        assert done.state.phase is phase, f"{where}: {done.state.reason}"
        assert _left(world) == _left(reference), where
        assert replay(done.journal.log)[-1].decision.state == done.state, where
