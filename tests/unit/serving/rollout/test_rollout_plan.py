"""What a plan promises is what the traffic gives, and what cannot be is said with the number."""

import pytest

from serving.rollout.plan import Traffic, plan
from serving.rollout.spec import Step
from serving.rollout.state import Phase
from tests.unit.serving.rollout.world import World, quick_spec

TRAFFIC = Traffic(
    requests_per_second=200, label_share=1.0, bad={"errors": 0.002, "slow": 0.01, "accuracy": 0.06, "drift": 0.05}
)


def test_more_traffic_sees_smaller_harm_in_less_time():
    slow, fast = (
        plan(quick_spec(), TRAFFIC.model_copy(update={"requests_per_second": rate})) for rate in (20.0, 2000.0)
    )
    assert fast.seconds < slow.seconds
    for one, other in zip(fast.steps[:-1], slow.steps[:-1], strict=True):
        assert one.smallest_harm["errors"] <= other.smallest_harm["errors"]
    assert 0.01 < fast.steps[4].smallest_harm["errors"] < 0.02


def test_everything_to_the_candidate_compares_nothing():
    assert plan(quick_spec(), TRAFFIC).steps[-1].smallest_harm["errors"] is None


def test_mirrored_answers_expose_nobody():
    made = plan(quick_spec("blue_green"), TRAFFIC)
    assert made.steps[0].exposed == 0 < made.steps[0].requests
    assert made.exposed == made.steps[1].requests


def test_evidence_that_cannot_come_in_time_is_said_with_the_number():
    steps = (Step(weight=5, bake_seconds=60, min_requests=500, deadline_seconds=600),)
    made = plan(quick_spec(steps=steps), Traffic(requests_per_second=2))
    assert made.problems == (
        "step 1: 500 requests comes after about 5,000 s at 0.1 requests/s of the candidate, and the deadline is 600 s; "
        "give it more time, more weight, or ask for less",
    )


def test_without_labels_accuracy_is_never_shown():
    made = plan(quick_spec(), TRAFFIC.model_copy(update={"label_share": 0.0}))
    assert len(made.problems) == 1 and "proof of accuracy comes never" in made.problems[0]


def test_planned_time_is_about_the_time_it_takes(drive):
    """Mean of 8 simulated rollouts within a factor of 1.5: the looks of 5 s and the luck of the draw."""
    steps = (Step(weight=50, bake_seconds=10, deadline_seconds=4000), Step(weight=100, bake_seconds=10))
    spec = quick_spec(steps=steps, checks=())
    expected = plan(spec, TRAFFIC.model_copy(update={"requests_per_second": 40.0})).steps[0].seconds
    taken = []
    for seed in range(8):
        world, at = World(seed=seed, rate=40), []
        done = drive(spec, world, each=lambda _, r, at=at: at.append(r.state.clock) if r.state.weight == 50 else None)
        assert done.state.phase is Phase.PROMOTED, done.state.reason
        taken.append(at[-1] - at[0])
    assert sum(taken) / len(taken) == pytest.approx(expected, rel=0.5)
