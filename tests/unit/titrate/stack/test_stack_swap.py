"""The plan of an exchange, against a model of Envoy and of servers that start, crash and answer at any moment."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from titrate.stack.swap import ArmKey, Lane, Wish, plan

A, B = ("pills", "a"), ("pills", "b")
STABLE_A, STABLE_B = ArmKey("pills", "stable", "a"), ArmKey("pills", "stable", "b")
ASKS_B = ArmKey("pills", "candidate", "b")


def step(wish, routed=None, ready=None, known=(), declared=None):
    """One plan for the workload pills; Envoy was told of what it knows, where nothing else is said."""
    wishes = {"pills": wish} if wish else {}
    lanes = {"pills": routed} if routed else {}
    return plan(wishes, lanes, ready or {}, set(known), set(known if declared is None else declared))


def test_nothing_wanted_nothing_done():
    done = step(None)
    assert (done.start, done.routed, done.arms, done.retire) == ((), {}, (), ())


def test_a_server_is_started_announced_used_in_this_order():
    wanted = Wish(Lane("a"))
    assert step(wanted).start == (A,)
    assert step(wanted, ready={A: False}).arms == ()
    announced = step(wanted, ready={A: True})
    assert (announced.arms, announced.routed) == (((STABLE_A, 0),), {})
    used = step(wanted, ready={A: True}, known=[STABLE_A])
    assert (used.arms, used.routed) == (((STABLE_A, 100),), {"pills": Lane("a")})


def test_the_old_one_serves_until_envoy_knows_the_new_one():
    wanted, routed = Wish(Lane("b")), Lane("a")
    starting = step(wanted, routed, {A: True, B: False}, [STABLE_A])
    assert (starting.arms, starting.routed, starting.retire) == (((STABLE_A, 100),), {"pills": routed}, ())
    ready = step(wanted, routed, {A: True, B: True}, [STABLE_A])
    assert (ready.arms, ready.retire) == (((STABLE_A, 100), (STABLE_B, 0)), ())
    known = step(wanted, routed, {A: True, B: True}, [STABLE_A, STABLE_B])
    assert (known.arms, known.retire) == (((STABLE_A, 0), (STABLE_B, 100)), (A,))
    assert known.routed == {"pills": Lane("b")}


def test_going_back_before_the_new_one_is_ready_retires_it():
    back = step(Wish(Lane("a")), Lane("a"), {A: True, B: False}, [STABLE_A])
    assert (back.routed, back.retire) == ({"pills": Lane("a")}, (B,))


def test_a_crashed_server_keeps_its_traffic_while_it_is_started_again():
    """Envoy retries; there is nobody else to ask."""
    assert step(Wish(Lane("a")), Lane("a"), {A: False}, [STABLE_A]).arms == ((STABLE_A, 100),)


def test_a_workload_that_is_no_longer_wanted_goes():
    gone = step(None, Lane("a"), {A: True}, [STABLE_A])
    assert (gone.routed, gone.retire) == ({}, (A,))


def test_a_candidate_gets_its_weight_once_envoy_knows_it():
    wanted, alone = Wish(Lane("a", "b", 5)), Lane("a")
    starting = step(wanted, alone, {A: True, B: False}, [STABLE_A])
    assert (starting.arms, starting.routed) == (((STABLE_A, 100),), {"pills": alone})
    announced = step(wanted, alone, {A: True, B: True}, [STABLE_A])
    assert announced.arms == ((ASKS_B, 0), (STABLE_A, 100))
    used = step(wanted, alone, {A: True, B: True}, [STABLE_A, ASKS_B])
    assert (used.arms, used.routed) == (((ASKS_B, 5), (STABLE_A, 95)), {"pills": Lane("a", "b", 5)})


def test_a_crashed_candidate_keeps_its_arm_and_its_fallback():
    """Its rollout decides; Envoy asks stable meanwhile."""
    lane = Lane("a", "b", 100)
    assert step(Wish(lane), lane, {A: False, B: False}, [STABLE_A, ASKS_B]).arms == ((ASKS_B, 100), (STABLE_A, 0))


def test_a_promoted_candidate_is_known_by_its_new_name_before_traffic_moves():
    before, promoted = Lane("a", "b", 100), Wish(Lane("b"), kept="a")
    announced = step(promoted, before, {A: True, B: True}, [STABLE_A, ASKS_B])
    assert announced.routed == {"pills": before}
    assert announced.arms == ((ASKS_B, 100), (STABLE_A, 0), (STABLE_B, 0))
    moved = step(promoted, before, {A: True, B: True}, [STABLE_A, ASKS_B, STABLE_B])
    assert moved.routed == {"pills": Lane("b")}
    assert moved.arms == ((ASKS_B, 0), (STABLE_A, 0), (STABLE_B, 100))
    assert moved.retire == (), "the former stable is kept"


def test_the_way_back_is_instant_because_envoy_knows_the_kept_release():
    back = step(Wish(Lane("a", "b")), Lane("b"), {A: True, B: True}, [STABLE_A, STABLE_B])
    assert back.routed == {"pills": Lane("a")}
    assert dict(back.arms)[STABLE_A] == 100


class Exchange(RuleBasedStateMachine):
    """Wishes change, servers come up and crash, Envoy applies late: traffic always has somewhere to go."""

    def __init__(self):
        super().__init__()
        self.wishes, self.routed, self.ready, self.known = {}, {}, {}, set()
        self.arms = ()

    @rule(
        workload=st.sampled_from(["pills", "reward"]),
        stable=st.sampled_from("abc"),
        candidate=st.sampled_from([None, "a", "b", "c"]),
        kept=st.sampled_from([None, "a", "b"]),
        weight=st.sampled_from([0, 5, 100]),
    )
    def wish(self, workload, stable, candidate, kept, weight):
        lane = Lane(stable, candidate, weight) if candidate not in (None, stable) else Lane(stable)
        self.wishes = {**self.wishes, workload: Wish(lane, kept)}

    @rule(data=st.data())
    def come_up_or_crash(self, data):
        if self.ready:
            key = data.draw(st.sampled_from(sorted(self.ready)))
            self.ready[key] = not self.ready[key]

    @rule()
    def envoy_applies(self):
        self.known = {key for key, _ in self.arms}

    @rule(stop=st.booleans())
    def supervise(self, stop):
        declared = {key for key, _ in self.arms}
        done = plan(self.wishes, self.routed, dict(self.ready), set(self.known), declared)
        if done.arms != self.arms:
            self.known = set()
        wanted = {(w, release) for w, wish in self.wishes.items() for release in wish.releases()}
        used = {(w, release) for w, lane in done.routed.items() for release in (lane.stable, lane.candidate)}
        assert not set(done.retire) & (wanted | used)
        for workload, lane in done.routed.items():
            assert (workload, lane.stable) in self.ready, "traffic goes to servers that are there"
            assert lane.weight in (0, self.wishes[workload].lane.weight, self.routed.get(workload, lane).weight)
        assert set(self.routed) <= set(done.routed), "a served workload is never left without a server"
        self.routed, self.arms = done.routed, done.arms
        for key in done.start:
            self.ready[key] = False
        for key in done.retire if stop else ():
            del self.ready[key]

    @invariant()
    def each_served_workload_has_all_its_traffic_at_known_servers(self):
        for workload, lane in self.routed.items():
            weights = {key: weight for key, weight in self.arms if key.workload == workload}
            assert sum(weights.values()) == 100
            assert weights[ArmKey(workload, "stable", lane.stable)] == 100 - lane.weight
            if lane.candidate:
                assert weights[ArmKey(workload, "candidate", lane.candidate)] == lane.weight
            else:
                assert lane.weight == 0


Exchange.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestExchange = Exchange.TestCase
