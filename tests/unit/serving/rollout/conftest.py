import pytest

from serving.rollout.journal import Journal
from serving.rollout.reconcile import Reconciler
from tests.unit.serving.rollout.world import Inline, World


@pytest.fixture
def drive(tmp_path):
    """A function that runs a rollout of `spec` in `world` to its end and returns the reconciler."""

    def run(spec, world=None, looks=2000, each=None):
        world = world or World()
        journal = Journal.create(tmp_path / "rollouts", spec)
        reconciler = Reconciler(journal, (world,) * 4, lambda: world.now, Inline())
        for number in range(looks):
            if each:
                each(number, reconciler)
            reconciler.look()
            if reconciler.done:
                break
            world.pass_time()
        return reconciler

    return run
