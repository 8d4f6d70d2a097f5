"""Whole rollouts in a small world: who is promoted, who is rolled back, and what is left behind."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from serving.rollout.journal import Journal
from serving.rollout.observations import Weights
from serving.rollout.reconcile import Reconciler
from serving.rollout.spec import Confirm, Step
from serving.rollout.state import Phase
from tests.unit.serving.rollout.world import CANDIDATE, CLASSES, STABLE, World, broken, down, quick_spec


def assert_back_at_stable(done, world):
    assert done.state.phase is Phase.ROLLED_BACK
    assert world.weights == Weights(stable=100, candidate=0) and world.mirrored == 0
    assert world.arms["stable"] == STABLE and world.alias == STABLE
    assert world.running == {STABLE}


def test_good_candidate_is_promoted_and_stable_kept_for_the_way_back(drive):
    world = World()
    done = drive(quick_spec(classes=CLASSES), world)
    assert done.state.phase is Phase.PROMOTED, done.state.reason
    assert world.alias == world.arms["stable"] == CANDIDATE
    assert world.weights == Weights(stable=100, candidate=0) and world.running == {STABLE, CANDIDATE}
    assert [event for event, _ in world.told][-1] == "promoted"


def test_old_release_is_removed_after_validation(drive):
    world = World()
    assert drive(quick_spec("ten_fifty_hundred"), world).state.phase is Phase.PROMOTED
    assert world.running == {CANDIDATE}


def test_blue_green_goes_from_nothing_to_everything(drive):
    world, seen = World(), set()
    done = drive(quick_spec("blue_green"), world, each=lambda _, r: seen.add(r.state.weight))
    assert done.state.phase is Phase.PROMOTED and seen == {0, 100}


def test_blue_green_switches_back_when_the_limit_breaks_without_a_stable_arm(drive):
    world = World()

    def turn_bad(_, reconciler):
        if reconciler.state.weight == 100:
            world.candidate_bad = {"errors": 0.2}

    done = drive(quick_spec("blue_green"), world, each=turn_bad)
    assert_back_at_stable(done, world)
    assert "errors" in done.state.reason


def test_experiment_ends_at_stable_and_is_no_failure(drive):
    world = World()
    done = drive(quick_spec("shadow_only"), world)
    assert done.state.phase is Phase.COMPLETED and world.alias == STABLE and world.running == {STABLE}
    assert world.highest == 0


@pytest.mark.parametrize(
    ("harm", "metric", "most"),
    [
        ({"candidate_bad": {"errors": 0.032}}, "errors", 100),
        ({"candidate_bad": {"slow": 0.5}}, "slow", 5),
        ({"candidate_wrong": {CLASSES[3]: 0.7, CLASSES[9]: 0.7}}, "accuracy/", 25),
        ({"candidate_bad": {"agreement": 0.5}}, "agreement", 5),
        ({"candidate_bad": {"drift": 0.3}}, "drift", 10),
    ],
    ids=["3 % errors", "slow", "2 of 16 classes", "disagrees", "drifts alone"],
)
def test_harmful_candidate_is_rolled_back(drive, harm, metric, most):
    world = World()
    vars(world).update(harm)
    done = drive(quick_spec(classes=CLASSES), world)
    assert_back_at_stable(done, world)
    assert metric in done.state.reason and world.highest <= most


def test_harm_that_begins_late_is_found(drive):
    world = World()

    def turn_bad(_, reconciler):
        if reconciler.state.weight == 25:
            world.candidate_bad = {"errors": 0.08}

    assert_back_at_stable(drive(quick_spec(), world, each=turn_bad), world)
    assert 25 <= world.highest <= 50


def test_drift_of_both_arms_is_an_alert_and_no_rollback(drive):
    world = World()
    world.bad["drift"], world.candidate_bad = 0.4, {"drift": 0.6}
    done = drive(quick_spec(), world)
    assert done.state.phase is Phase.PROMOTED, done.state.reason
    assert [event for event, _ in world.told].count("alert") == 1


@pytest.mark.parametrize("unread", [set(), {"agreement"}], ids=["none came", "nobody could be asked"])
def test_mirroring_waits_for_answers_to_compare(drive, unread):
    """They come later than the requests are counted: no client meets a candidate whose answers nobody compared."""
    world = World()
    del world.bad["agreement"]
    world.unread = unread
    done = drive(quick_spec(), world)
    assert_back_at_stable(done, world)
    assert "50 mirrored answers beside stable's own" in done.state.reason and world.highest == 0


def test_labels_that_cover_one_arm_less_conclude_nothing(drive):
    world = World()
    world.labels["candidate"], world.candidate_wrong = 0.3, dict.fromkeys(CLASSES, 0.5)
    done = drive(quick_spec(steps=(Step(weight=50, bake_seconds=10, deadline_seconds=300), Step(weight=100))), world)
    assert_back_at_stable(done, world)
    assert "was not done in 300 s" in done.state.reason


def test_without_counts_nothing_is_promoted(drive):
    world = World(rate=0.0)
    done = drive(quick_spec(), world)
    assert_back_at_stable(done, world)
    assert world.highest == 0 and "requests of the candidate" in done.state.reason


def test_candidate_at_the_margin_is_not_promoted(drive):
    world = World()
    world.candidate_bad = {"errors": 0.012, "slow": 0.02}
    assert_back_at_stable(drive(quick_spec(), world, looks=3000), world)


def test_candidate_that_never_gets_ready_is_given_up_after_its_time(drive):
    world = World()
    world.ready = False
    done = drive(quick_spec(), world)
    assert_back_at_stable(done, world)
    assert "not ready within 300 s" in done.state.reason and world.highest == 0
    assert done.state.clock < 330


def test_router_that_already_splits_is_left_alone(drive):
    world = World()
    world.weights = Weights(stable=70, candidate=30)
    done = drive(quick_spec(), world)
    assert done.state.phase is Phase.ROLLED_BACK and "end what splits it" in done.state.reason
    assert world.weights.candidate == 30 and set(world.calls) == {"notify"}


@pytest.mark.parametrize("weight", [0, 5, 50, 100])
def test_crash_loop_is_rolled_back_at_the_next_look(drive, weight):
    world, when = World(), []

    def crash(number, reconciler):
        if reconciler.state.phase is Phase.STEPPING and reconciler.state.weight == weight:
            world.restarts, world.ready = 2, False
            when.append(number)

    done = drive(quick_spec(), world, each=crash)
    assert_back_at_stable(done, world)
    assert "crashes: 2 restarts" in done.state.reason and len(when) == 1


def test_candidate_that_stays_away_is_rolled_back(drive):
    world = World()

    def leave(_, reconciler):
        world.ready = reconciler.state.weight < 10

    done = drive(quick_spec(), world, each=leave)
    assert_back_at_stable(done, world)
    assert "not ready for 10 s" in done.state.reason


@pytest.mark.parametrize("call", ["store_stable", "start", "check", "promote", "promoted"])
def test_part_that_is_broken_ends_at_stable(drive, call):
    world = World()
    world.failing[call] = broken(call)
    done = drive(quick_spec(), world)
    assert_back_at_stable(done, world)
    assert f"{call} is broken" in done.state.reason


def test_half_a_promotion_is_undone(drive):
    world = World()
    world.failing["promote, second half"] = broken("router")
    assert_back_at_stable(drive(quick_spec(), world), world)


@pytest.mark.parametrize("call", ["store_stable", "start", "apply", "shadow", "check", "promote", "restore", "stop"])
def test_part_that_is_away_for_a_while_only_takes_longer(drive, call):
    world = World()
    if call in ("restore", "stop"):
        world.candidate_bad = {"errors": 0.3}
    world.failing[call] = down(call)

    def come_back(_, __):
        if world.calls.count(call) >= 4:
            world.failing.clear()

    done = drive(quick_spec(), world, each=come_back)
    assert world.calls.count(call) >= 4
    assert done.state.phase is (Phase.ROLLED_BACK if world.candidate_bad else Phase.PROMOTED), done.state.reason


@pytest.mark.parametrize("source", ["readings", "observed_weight"])
def test_blind_looks_hold_and_conclude_nothing(drive, source):
    world, during = World(), []

    def blind(number, reconciler):
        if 12 <= number < 40:
            world.failing[source] = down(source)
            during.append((reconciler.state.step, reconciler.state.baked))
        else:
            world.failing.clear()

    done = drive(quick_spec(), world, each=blind)
    assert len(set(during[1:])) == 1, "a step moved while nothing was seen"
    assert done.state.phase is Phase.PROMOTED, done.state.reason


def test_weight_that_somebody_else_changed_stops_the_bake_and_is_put_back(drive):
    world, baked = World(), []

    def meddle(number, reconciler):
        if reconciler.state.weight == 10 and len(baked) < 10:
            world.weights = Weights(stable=20, candidate=80)
            baked.append(reconciler.state.baked)

    done = drive(quick_spec(), world, each=meddle)
    assert set(baked) == {0.0} and done.state.phase is Phase.PROMOTED


def test_router_that_never_does_what_it_is_told_meets_the_deadline(drive):
    world = World()
    world.apply = lambda weights: None
    done = drive(quick_spec(steps=(Step(weight=5, bake_seconds=10, deadline_seconds=100),)), world)
    assert done.state.phase is Phase.ROLLED_BACK and "bake" in done.state.reason


def test_confirmation_is_waited_for_and_given_up(drive):
    hooks = tuple(
        Confirm(name=f"ward {gate}", url="http://ward/", before=gate) for gate in ("start", "step", "promotion")
    )
    world = World()
    assert drive(quick_spec(confirms=hooks), world).state.phase is Phase.PROMOTED
    assert world.asked == {hook.name for hook in hooks}


def test_confirmation_that_never_comes_ends_at_stable(drive):
    hook = Confirm(name="ward", url="http://ward/", before="promotion")
    world = World()
    world.says_yes = False
    done = drive(quick_spec(confirms=(hook,), confirm_seconds=60), world)
    assert_back_at_stable(done, world)
    assert "'ward' did not confirm the promotion in 60 s" in done.state.reason


def test_baseline_arm_takes_stables_place(drive):
    world = World()
    done = drive(quick_spec(baseline=True), world)
    assert done.state.phase is Phase.PROMOTED, done.state.reason
    totals = done.state.totals["errors"]
    assert totals.stable < 2 * totals.candidate


def test_jumps_of_the_clock_neither_end_a_bake_nor_a_wait(drive):
    world, steps = World(), []

    def jump(number, reconciler):
        steps.append(reconciler.state.step)
        world.now += {9: 7 * 24 * 3600, 14: -3 * 24 * 3600}.get(number, 0)

    done = drive(quick_spec(), world, each=jump)
    assert done.state.phase is Phase.PROMOTED, done.state.reason
    assert all(steps.count(step) >= 4 for step in range(6)), "a bake of 20 s takes four looks of 5 s"


def test_loop_runs_by_itself_with_slow_answers_in_other_threads(tmp_path):
    world = World(rate=4000)
    steps = tuple(Step(weight=weight, bake_seconds=0.05, min_requests=20, deadline_seconds=60) for weight in (50, 100))
    spec = quick_spec(steps=steps, look_seconds=0.02)
    journal = Journal.create(tmp_path, spec)
    readings = world.readings

    def after_some_traffic(asked):
        world.pass_time(1.0)
        return readings(asked)

    world.readings = after_some_traffic
    with ThreadPoolExecutor(2) as executor:
        reconciler = Reconciler(journal, (world,) * 4, time.monotonic, executor)
        reconciler.run(Event())
    assert reconciler.state.phase is Phase.PROMOTED, reconciler.state.reason
    assert [event for event, _ in world.told][-1] == "promoted"
