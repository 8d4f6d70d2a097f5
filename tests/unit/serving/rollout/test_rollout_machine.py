"""The engine against a router that may do nothing, parts that fail, people, jumping clocks and repeated observations.

A hypothesis state machine calls `decide` with what a loop could hand it, and checks after every call what must hold.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from serving.rollout.actions import Promote, SetShadow, SetWeights, StartCandidate, StopCandidate
from serving.rollout.engine import begin, decide
from serving.rollout.observations import (
    CandidateReport,
    Command,
    Observation,
    Reading,
    Result,
    RouterReport,
    Weights,
)
from serving.rollout.spec import Confirm, Step
from serving.rollout.state import Phase, RolloutState
from tests.unit.serving.rollout.world import quick_spec

STEPS = (
    Step(shadow=20, bake_seconds=5, min_requests=20, deadline_seconds=200),
    Step(weight=10, bake_seconds=5, min_requests=20, deadline_seconds=200),
    Step(weight=50, bake_seconds=5, min_requests=20, deadline_seconds=200, approval=True),
    Step(weight=100, bake_seconds=5, min_requests=20, deadline_seconds=200),
)
SPECS = [
    quick_spec(steps=STEPS, retire_stable=True),
    quick_spec(steps=STEPS, baseline=True, confirms=(Confirm(name="ward", url="http://w/", before="step"),)),
    quick_spec(steps=STEPS[:2]),
]
STABLE_ALONE = Weights(stable=100, candidate=0)
ROUTING = (SetWeights, SetShadow)


class Rollout(RuleBasedStateMachine):
    """What a world remembers: the router's shares, cumulative counters, results on their way."""

    @initialize(spec=st.sampled_from(SPECS), traffic=st.sampled_from([True, True, False]), ahead=st.integers(0, 40))
    def start(self, spec, traffic, ahead):
        self.spec, self.traffic = spec, traffic
        self.state = begin(spec, "r")
        self.before = self.state
        self.actions = ()
        self.at, self.ticks = 1000.0, 0
        self.weights, self.shadow = STABLE_ALONE, 0
        self.counts = {}
        self.results, self.old = [], []
        self.restarts = 0
        self.forced = self.answered = False
        self.commands = 0
        for _ in range(ahead):  # so that examples begin in every phase
            self.grow(1, 3000)
            approve = Command(id=f"ahead {self.ticks}", name="approve", by="ada")
            self.look(commands=(approve,) if self.state.phase is Phase.APPROVAL else ())

    # --- what a loop hands in

    def decide(self, *observations):
        self.before = self.state
        decision = decide(self.spec, self.state, observations)
        self.state, self.actions = decision.state, decision.actions
        return decision

    def look(self, seconds=5.0, router=True, ready=True, readings=True, commands=()):
        self.at += seconds
        self.ticks += 1
        seen = Observation(
            sequence=self.state.seen + 1,
            at=self.at,
            router=RouterReport(weights=self.weights, shadow=self.shadow) if router else None,
            candidate=None if ready is None else CandidateReport(ready=ready, restarts=self.restarts),
            readings=self.readings() if readings and self.traffic else (),
            results=tuple(self.results),
            commands=commands,
        )
        self.results = []
        self.old.append(seen)
        self.decide(seen)
        self.do()

    def readings(self):
        return tuple(
            Reading(
                source="w",
                arm=arm,
                stamp=self.ticks,
                counts={name: self.counts.get((arm, name), (0, 0)) for name in self.spec.sizes},
                eligible={"accuracy": sum(self.counts.get((arm, "accuracy"), (0, 0)))},
            )
            for arm in ("stable", "candidate", "baseline")
        )

    def do(self):
        """The router does as it is told, unless a rule says otherwise; everything else answers at the next look."""
        for action in self.actions:
            if isinstance(action, SetWeights):
                self.weights = action.weights
            elif isinstance(action, SetShadow):
                self.shadow = action.percent
            else:
                if action.kind in ("restore_stable", "promote"):
                    self.weights, self.shadow = STABLE_ALONE, 0
                self.results.append(Result(action=action.id, ok=True, payload={"kept": True}))

    def grow(self, bad, number):
        for arm, share in self.weights.model_dump().items():
            mirrored = self.shadow if arm == "candidate" else 0
            n = number * max(share, mirrored) // 100
            for name in self.spec.sizes:
                k = n * bad // 100 if arm == "candidate" else n // 100
                old = self.counts.get((arm, name), (0, 0))
                self.counts[arm, name] = (old[0] + k, old[1] + n - k)

    # --- rules

    @rule(number=st.integers(0, 4000), bad=st.sampled_from([0, 1, 1, 1, 2, 60]), looks=st.integers(1, 6))
    def traffic_comes(self, number, bad, looks):
        for _ in range(looks):
            self.grow(bad, number)
            self.look()

    @rule(seconds=st.sampled_from([-1e6, -5.0, 0.0, 1.0, 400.0, 1e6]))
    def clock_jumps(self, seconds):
        self.look(seconds)

    @rule()
    def sources_are_down(self):
        self.look(router=False, ready=None, readings=False)

    @precondition(lambda self: not self.state.ended)
    @rule(weight=st.integers(0, 100), shadow=st.integers(0, 100))
    def somebody_meddles(self, weight, shadow):
        self.weights, self.shadow = Weights(stable=100 - weight, candidate=weight), shadow

    @rule(ready=st.booleans(), restarts=st.sampled_from([0, 0, 1, 2]))
    def candidate_suffers(self, ready, restarts):
        self.restarts += restarts
        self.look(ready=ready)

    @precondition(lambda self: self.results)
    @rule(lose=st.booleans())
    def something_fails(self, lose):
        failed = [result.model_copy(update={"ok": False, "detail": "broken"}) for result in self.results]
        self.results = [] if lose else failed
        self.look()

    @rule(name=st.sampled_from(["pause", "resume", "abort", "promote", "retry", "retry", "approve", "approve"]))
    def person_asks(self, name):
        self.commands += 1
        self.forced |= name == "promote"
        self.look(commands=(Command(id=str(self.commands), name=name, by="ada"),))

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def old_observations_come_again(self, data):
        again = data.draw(st.lists(st.sampled_from(self.old), min_size=1, max_size=5))
        decision = decide(self.spec, self.state, again)
        assert decision.state is self.state and decision.actions == ()

    @rule()
    def process_restarts(self):
        self.state = RolloutState.model_validate_json(self.state.model_dump_json())
        self.results = []

    # --- what must hold after every call

    def limit(self):
        """The most that the candidate may be given now."""
        if self.state.phase in (Phase.PROMOTING, Phase.PROMOTED):
            return 100
        going = self.state.phase in (Phase.STEPPING, Phase.APPROVAL, Phase.CONFIRMING)
        return self.spec.steps[self.state.step].weight if going and self.state.step >= 0 else 0

    @invariant()
    def weight_never_exceeds_its_step(self):
        asked = [action.weights.candidate for action in self.actions if isinstance(action, SetWeights)]
        assert max([self.state.weight, *asked]) <= self.limit()

    @invariant()
    def dose_rises_one_step_at_a_time(self):
        if self.state.phase is Phase.STEPPING and self.before.attempt == self.state.attempt:
            assert self.state.step - self.before.step in (0, 1)

    @invariant()
    def nothing_is_touched_before_stable_is_stored(self):
        if self.state.stable_spec is None:
            assert not any(isinstance(a, (*ROUTING, StartCandidate, StopCandidate, Promote)) for a in self.actions)

    @invariant()
    def ends_are_clean(self):
        if self.state.phase in (Phase.ROLLED_BACK, Phase.COMPLETED):
            touched = self.state.stable_spec is not None
            assert self.state.weight == self.state.shadow == 0
            assert not touched or (self.state.restored and self.state.stopped)
            assert not self.state.promotion or self.state.undone

    @invariant()
    def nothing_is_promoted_without_counts_or_a_person(self):
        if self.state.phase is Phase.PROMOTED and not self.forced:
            seen = self.state.totals.get("errors")
            assert self.traffic and seen is not None and seen.candidate >= 20 and seen.stable > 0

    @invariant()
    def state_is_small(self):
        assert len(self.state.commands) <= 64 and len(self.state.notices) <= 64
        assert len(self.state.cursors) <= 3 * len(self.spec.sizes)

    def teardown(self):
        """Whatever happened: an abort, with everything answering, ends at stable."""
        if not hasattr(self, "spec") or self.state.phase in (Phase.PROMOTED, Phase.COMPLETED):
            return
        done_before = self.state.promotion == "done"
        self.look(commands=(Command(id="last", name="abort", by="ada"),))
        for _ in range(6):
            self.look()
        if self.state.phase is Phase.PROMOTED:
            assert done_before or self.state.promotion == "done"
        else:
            assert self.state.phase in (Phase.ROLLED_BACK, Phase.COMPLETED), self.state.phase
            untouched = self.state.stable_spec is None
            assert untouched or (self.weights, self.shadow) == (STABLE_ALONE, 0)


Rollout.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestRollout = Rollout.TestCase
