"""What every router must do, whatever splits the traffic: subclass `RouterContract` beside a fixture `routed`.

    @pytest.fixture(scope="module")
    def routed():
        yield Routed(router=..., ...)

    class TestMyRouter(RouterContract): ...

Both releases run and are ready when the fixture yields; stable has all traffic.
"""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from core.errors import UserError
from serving.rollout.observations import RouterReport, Weights
from serving.rollout.ports import Router
from serving.rollout.spec import RolloutSpec, Step

STABLE_ALONE = Weights(stable=100, candidate=0)
REQUESTS = 400
TOLERANCE = 0.1
"""Of a share of REQUESTS: 5 standard deviations of a router that draws at random, at 20 %."""


@dataclass
class Routed:
    """A router under test, with a client that sends requests through it."""

    router: Router
    spec: RolloutSpec
    """Its `stable` and `candidate` are what answers are counted by. It must pass `check`."""
    again: Callable[[], Router]
    """The same router, made anew as a restarted process would make it."""
    send: Callable[[int], Counter[str]]
    """So many requests; answers by the release that gave them. Raises where one is lost or answered with an error."""
    copies: Callable[[], int] | None = None
    """Requests that the candidate's server answered so far, mirrored ones included; None: the router cannot mirror."""
    refused: Mapping[str, RolloutSpec] | None = None
    """Part of the reason -> a spec that this router cannot do."""
    half_way: Callable[[], AbstractContextManager[None]] | None = None
    """Makes `promote` fail after its first change."""
    seconds: float = 20.0
    """Until a change is in force."""


class RouterContract:
    """The contract. Each test begins and ends with stable alone."""

    @pytest.fixture(autouse=True)
    def stored(self, routed):
        """What the router stored before the first change of the test."""
        stored = json.loads(json.dumps(routed.router.store_stable()))
        yield stored
        routed.router.restore(stored)
        observed(routed, STABLE_ALONE, 0)

    def test_it_accepts_what_it_can_do(self, routed):
        routed.router.check(routed.spec)

    def test_it_refuses_what_it_cannot_do_with_the_reason(self, routed):
        if routed.copies is None:
            step = Step(shadow=10)
            shadowed = routed.spec.model_copy(update={"steps": (step, *(s for s in routed.spec.steps if s.weight))})
            with pytest.raises(UserError, match=r"mirror|shadow"):
                routed.router.check(shadowed)
        for reason, spec in (routed.refused or {}).items():
            with pytest.raises(UserError, match=reason):
                routed.router.check(spec)

    def test_storing_changes_nothing(self, routed, stored):
        observed(routed, STABLE_ALONE, 0)
        assert json.loads(json.dumps(routed.router.store_stable())) == stored
        observed(routed, STABLE_ALONE, 0)
        assert set(routed.send(20)) == {routed.spec.stable}

    def test_the_shares_asked_for_come_into_force_and_traffic_follows(self, routed):
        for percent in (20, 50, 100, 0):
            weights = Weights(stable=100 - percent, candidate=percent)
            routed.router.apply(weights)
            observed(routed, weights, 0)
            follows(routed, percent)

    def test_asking_twice_and_from_a_new_process_is_harmless(self, routed):
        weights = Weights(stable=70, candidate=30)
        for router in (routed.router, routed.router, routed.again()):
            router.apply(weights)
            observed(routed, weights, 0)
        assert routed.again().observed_weight() == RouterReport(weights=weights, shadow=0)

    def test_no_request_is_lost_while_shares_change(self, routed):
        for percent in (10, 90, 50, 0, 100, 30):
            routed.router.apply(Weights(stable=100 - percent, candidate=percent))
            routed.send(50)  # without waiting: some see the old shares, some the new ones

    def test_mirroring_copies_requests_and_answers_none(self, routed):
        if routed.copies is None:
            routed.router.shadow(0)  # is done already
            observed(routed, STABLE_ALONE, 0)
            return
        routed.router.shadow(50)
        observed(routed, STABLE_ALONE, 50)
        before = routed.copies()
        assert set(routed.send(REQUESTS)) == {routed.spec.stable}
        eventually(lambda: abs(routed.copies() - before - REQUESTS / 2) <= REQUESTS * TOLERANCE * 1.3, routed.seconds)
        routed.router.shadow(0)
        observed(routed, STABLE_ALONE, 0)
        time.sleep(0.5)  # the last copies arrive
        before = routed.copies()
        routed.send(50)
        time.sleep(0.5)
        assert routed.copies() == before

    def test_after_the_promotion_the_candidate_is_stable(self, routed):
        promote(routed)
        routed.router.promote(routed.spec.candidate)
        routed.again().promote(routed.spec.candidate)
        alone(routed, routed.spec.candidate)

    @pytest.mark.parametrize("percent", [20, 100])
    def test_restoring_puts_back_what_was_stored(self, routed, stored, percent):
        routed.router.apply(weights := Weights(stable=100 - percent, candidate=percent))
        observed(routed, weights, 0)
        routed.router.restore(stored)
        alone(routed, routed.spec.stable)
        routed.router.restore(stored)
        alone(routed, routed.spec.stable)

    def test_restoring_undoes_a_promotion_also_from_a_new_process(self, routed, stored):
        promote(routed)
        routed.again().restore(stored)
        alone(routed, routed.spec.stable)

    def test_restoring_undoes_a_promotion_that_was_cut_off(self, routed, stored):
        routed.router.apply(Weights(stable=0, candidate=100))
        observed(routed, Weights(stable=0, candidate=100), 0)
        with (routed.half_way or contextlib.nullcontext)(), contextlib.suppress(Exception):
            routed.router.promote(routed.spec.candidate)
        routed.again().restore(stored)  # at once, whatever is in force
        routed.send(50)
        alone(routed, routed.spec.stable)


def promote(routed: Routed) -> None:
    """Everything to the candidate, then its promotion, as the engine does it."""
    everything = Weights(stable=0, candidate=100)
    routed.router.apply(everything)
    observed(routed, everything, 0)
    routed.router.promote(routed.spec.candidate)
    alone(routed, routed.spec.candidate)


def alone(routed: Routed, release: str) -> None:
    """Wait until this release answers everything, and see that it stays so."""
    observed(routed, STABLE_ALONE, 0)
    eventually(lambda: set(routed.send(5)) == {release}, routed.seconds)
    observed(routed, STABLE_ALONE, 0)
    assert set(routed.send(50)) == {release}


def observed(routed: Routed, weights: Weights, shadow: int) -> None:
    """Wait until this is in force."""
    wanted = RouterReport(weights=weights, shadow=shadow)
    eventually(lambda: routed.router.observed_weight() == wanted, routed.seconds)


def follows(routed: Routed, percent: int) -> None:
    """Check that the candidate answers this share, nothing else answers, and no request is lost."""
    number = REQUESTS if 0 < percent < 100 else 50
    answers = routed.send(number)
    assert set(answers) <= {routed.spec.stable, routed.spec.candidate}
    assert sum(answers.values()) == number
    slack = number * TOLERANCE if 0 < percent < 100 else 0
    assert abs(answers[routed.spec.candidate] - number * percent / 100) <= slack


def eventually(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)
