"""What people can ask for, when, and what is refused with which reason."""

import pytest

from core.verdict import Outcome
from serving.rollout.decision_log import replay
from serving.rollout.engine import decide
from serving.rollout.observations import Command, Observation
from serving.rollout.spec import Step
from serving.rollout.state import Phase
from tests.unit.serving.rollout.world import CANDIDATE, STABLE, World, quick_spec


def _at(predicate, name, **more):
    """Gives a command once, at the first look at which `predicate(reconciler)` holds."""
    given = []

    def act(_, reconciler):
        if not given and predicate(reconciler):
            given.append(reconciler.journal.command(name, by="ada", **more))

    return act


def _weight(weight):
    return lambda reconciler: reconciler.state.weight == weight


def _refusals(reconciler):
    looks = replay(reconciler.journal.log)
    return [v.reason for look in looks for v in look.decision.verdicts if v.outcome is Outcome.ERROR]


@pytest.mark.parametrize("when", [0, 1, 2, 3, 4, 9, 14, 22, 30])
def test_abort_ends_at_stable_from_anywhere(drive, when):
    world = World()

    def abort(number, reconciler):
        if number == when:
            reconciler.journal.command("abort", by="ada")

    done = drive(quick_spec(), world, each=abort)
    assert done.state.phase is Phase.ROLLED_BACK and done.state.reason == "aborted by ada"
    assert world.alias == world.arms["stable"] == STABLE and world.weights.stable == 100 and world.running == {STABLE}


def test_abort_during_promotion_undoes_it(drive):
    world = World()
    done = drive(quick_spec(), world, each=_at(lambda r: r.state.promotion == "begun", "abort"))
    # the promotion's result came in with the same look: it is done, and only the release can be rolled back now
    assert done.state.phase is Phase.PROMOTED and "roll back the release instead" in _refusals(done)[0]

    world = World()
    done = drive(quick_spec(), world, each=_at(lambda r: r.state.phase is Phase.PROMOTING, "abort"))
    assert done.state.phase is Phase.ROLLED_BACK and world.alias == world.arms["stable"] == STABLE


def test_pause_holds_the_weight_and_resume_goes_on(drive):
    world, weights = World(), []

    def act(number, reconciler):
        weights.append(reconciler.state.weight)
        if number in (12, 60):
            reconciler.journal.command("pause" if number == 12 else "resume", by="ada")

    done = drive(quick_spec(), world, each=act)
    assert done.state.phase is Phase.PROMOTED and len(set(weights[13:61])) == 1


def test_pause_does_not_hold_a_rollback(drive):
    world = World()

    def act(number, reconciler):
        if number == 12:
            reconciler.journal.command("pause", by="ada")
        if number == 14:
            world.candidate_bad = {"errors": 0.5}

    done = drive(quick_spec(), world, each=act)
    assert done.state.phase is Phase.ROLLED_BACK and "errors" in done.state.reason


def test_step_with_approval_waits_for_a_person(drive):
    world = World()
    steps = (
        Step(weight=10, bake_seconds=10, deadline_seconds=4000, approval=True),
        Step(weight=100, bake_seconds=10),
    )
    waiting = []

    def act(number, reconciler):
        if number == 6:
            reconciler.journal.command("approve", by="ada", step=0)
        waiting.append(reconciler.state.phase is Phase.APPROVAL)

    done = drive(quick_spec(steps=steps), world, looks=120, each=act)
    assert "nothing waits for an approval" in _refusals(done)[0]
    assert done.state.phase is Phase.APPROVAL and world.highest == 10 and sum(waiting) > 40

    done.journal.command("approve", by="ada", step=1)
    done.look()
    assert "step 0 waits" in _refusals(done)[-1] and done.state.phase is Phase.APPROVAL
    done.journal.command("approve", by="ada", step=0)
    for _ in range(40):
        done.look()
        world.pass_time()
    assert done.state.phase is Phase.PROMOTED, done.state.reason


def test_promote_by_hand_skips_the_rest_and_is_on_record(drive):
    world = World(rate=20)
    done = drive(quick_spec(), world, each=_at(_weight(5), "promote"))
    assert done.state.phase is Phase.PROMOTED and done.state.forced_by == "ada" and world.alias == CANDIDATE
    assert any("by hand: ada" in text for _, text in world.told)


def test_promote_before_the_checks_is_refused(drive):
    world = World()
    done = drive(quick_spec(), world, each=_at(lambda r: r.state.phase is Phase.PREPARING, "promote"))
    assert "has not passed its checks" in _refusals(done)[0] and done.state.phase is Phase.PROMOTED
    assert not done.state.forced_by


def test_harm_beats_promotion_by_hand(drive):
    world = World()
    world.candidate_bad = {"errors": 0.5}
    done = drive(quick_spec(), world, each=_at(lambda r: r.state.shadow == 10, "promote"))
    assert done.state.phase is Phase.ROLLED_BACK and world.alias == STABLE


def test_retry_carries_evidence_for_promotion_on_and_starts_harm_anew(drive):
    world = World()
    done = drive(quick_spec(), world, each=_at(_weight(50), "abort"))
    fit = done.state.evidence.fit
    assert done.state.phase is Phase.ROLLED_BACK
    done.journal.command("retry", by="ada")
    done.look()
    assert done.state.attempt == 2 and done.state.evidence.fit == fit
    for _ in range(300):
        world.pass_time()
        done.look()
    assert done.state.phase is Phase.PROMOTED and world.calls.count("store_stable") == 2


@pytest.mark.parametrize("name", ["pause", "abort", "promote", "approve", "retry"])
def test_nothing_can_be_asked_of_a_promoted_rollout(drive, name):
    done = drive(quick_spec())
    done.journal.command(name, by="ada")
    done.look()
    assert done.state.phase is Phase.PROMOTED and "the rollout is promoted" in _refusals(done)[-1]


def test_command_that_comes_twice_is_taken_once(drive):
    done = drive(quick_spec(), looks=12)
    twice = Command(id="x", name="pause", by="ada")
    seen = Observation(sequence=done.state.seen + 1, at=done.state.at + 5, commands=(twice,))
    state = decide(done.spec, done.state, [seen]).state
    later = Observation(
        sequence=state.seen + 1, at=state.at + 5, commands=(Command(id="y", name="resume", by="ada"), twice)
    )
    assert state.paused and not decide(done.spec, state, [later]).state.paused
