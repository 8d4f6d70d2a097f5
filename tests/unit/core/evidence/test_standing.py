"""What people see between looks."""

import numpy as np

from core.evidence import judge
from core.evidence.judge import Judge, JudgeState, Metric
from core.evidence.standing import standings
from core.evidence.strata import events

SPEC = Judge(metrics=(Metric(name="errors", margin=0.01), Metric(name="mix", margin=0.05, categories=3, guard=True)))


def after(looks: int, candidate: float) -> JudgeState:
    rng, state = np.random.default_rng(13), judge.begin(SPEC)
    for _ in range(looks):
        seen = events(90, int(rng.binomial(90, 0.05)), 10, int(rng.binomial(10, candidate)))
        state = judge.look(SPEC, state, {"errors": seen})
    return state


def test_a_harmful_candidate_comes_nearer_to_rollback() -> None:
    early, late = (standings(SPEC, after(looks, 0.2), 0.1)[0] for looks in (8, 200))
    assert early.to_rollback is not None
    assert early.to_promotion is None
    assert late.to_rollback == 0
    assert late.excess[0] < 0.15 < late.excess[2]
    assert late.stable[0] < 0.05 < late.stable[2]


def test_an_equal_candidate_is_shown_the_way_to_promotion() -> None:
    found = standings(SPEC, after(100, 0.05), 0.1)[0]
    assert found.to_rollback is None
    assert found.to_promotion is not None
    assert found.to_promotion > 0


def test_nothing_is_expected_without_two_arms_or_of_a_mix() -> None:
    found = standings(SPEC, judge.begin(SPEC), 0.0)
    assert [item.metric for item in found] == ["errors"]
    assert found[0].to_rollback is None
    assert found[0].to_promotion is None
    assert found[0].candidate == (0.0, 0.5, 1.0)
