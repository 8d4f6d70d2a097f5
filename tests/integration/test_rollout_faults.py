"""What goes wrong around a rollout while clients ask without pause: the test looks, around it are the real engines."""

import fcntl
import os
import resource
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from components.register.registry import STABLE
from core import audit
from core.errors import TemporaryError
from core.verdict import Outcome
from serving.rollout.journal import Journal
from serving.rollout.observations import Weights
from serving.rollout.reconcile import Reconciler
from serving.rollout.spec import Readiness, Step
from serving.rollout.state import Phase
from tests.rollout_home import WITHIN, Rolling, Traffic
from tests.stack_home import until
from titrate.promote import alias_promoted, alias_restored
from titrate.rollouts import control, edge_counts, router
from titrate.rollouts.effects import StackEffects
from titrate.rollouts.loop import Counts
from titrate.rollouts.router import EnvoyRouter
from titrate.rollouts.servers import StackServers
from titrate.stack.control import down, up
from titrate.stack.state import wanted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, when it is imported
STEPS = (Step(weight=10), Step(weight=50), Step(weight=100))
ALL_STABLE = Weights(stable=100, candidate=0)
DAY = 86_400


@pytest.fixture(scope="module")
def rolling(tmp_path_factory):
    one = Rolling(tmp_path_factory.mktemp("faults"))
    up(one.home)
    yield one
    down(one.home)


@pytest.fixture
def traffic(rolling):
    with Traffic(rolling) as one:
        yield one
    one.check()


class Driven:
    """One rollout that the test looks at itself, so that it can go wrong between two looks."""

    def __init__(self, rolling, root, executor, note, **changes):
        self.rolling, self.ahead, self.moves = rolling, 0.0, alias_promoted
        candidate = rolling.release("none", note)
        self.spec = rolling.spec(candidate, **{"steps": STEPS, **changes})
        self.journal = Journal.create(root, self.spec)
        self.counts = Counts(rolling.home, since=time.time_ns() // 1000)
        self.router = EnvoyRouter(rolling.home, "pills", self.spec.routing)
        effects = StackEffects(rolling.home, self._promoted, alias_restored)
        ports = (self.router, StackServers(rolling.home, "pills"), self.counts, effects)
        self.reconciler = Reconciler(self.journal, ports, lambda: time.time() + self.ahead, executor)

    def _promoted(self, home, spec):
        self.moves(home, spec)

    @property
    def state(self):
        return self.reconciler.state

    def look(self):
        self.counts.stamp = self.state.seen + 1
        self.reconciler.look()
        time.sleep(0.2)

    def until(self, condition):
        """Look until it is true."""
        deadline = time.monotonic() + WITHIN
        while not condition(self.state):
            assert time.monotonic() < deadline, (self.state.phase, self.state.step, self.state.reason)
            self.look()

    def dosed(self, step):
        """Look until the candidate has had this step's share for some looks."""
        self.until(lambda s: s.step == step and s.in_force and s.baked > 0)

    def ended(self):
        self.until(lambda s: self.reconciler.done)
        assert control.replay(self.journal) == (self.state.seen, self.state)
        return self.state

    def assert_stable_everywhere(self):
        assert self.state.phase is Phase.ROLLED_BACK
        assert self.router.observed_weight().weights == ALL_STABLE
        assert wanted(self.rolling.home).stable == {"pills": self.spec.stable}
        assert wanted(self.rolling.home).candidates == {}
        assert self.rolling.registry.get("pills", STABLE).digest == self.spec.stable


@pytest.fixture
def drive(rolling, traffic, tmp_path):
    with ThreadPoolExecutor(4) as executor:
        yield lambda note, **changes: Driven(rolling, tmp_path, executor, note, **changes)


def test_a_clock_that_jumps_ends_no_bake_and_no_wait(drive):
    one, began = drive("clock"), {}
    for step, jump in enumerate((7 * DAY, -30 * DAY, 3 * DAY)):
        one.until(lambda s, step=step: s.step == step)
        began[step] = time.monotonic()
        one.ahead += jump
    assert one.ended().phase is Phase.PROMOTED, one.state.reason
    assert all(began[step + 1] - began[step] >= one.spec.steps[step].bake_seconds for step in (0, 1))


def test_a_locked_log_decides_nothing_but_a_rollback(drive, monkeypatch):
    monkeypatch.setattr(audit, "PATIENCE", 0.2)
    one = drive("locked", readiness=Readiness(restarts=1))
    one.dosed(1)
    before = one.state
    with one.journal.log.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for _ in range(5):
            one.look()
        assert one.state is before
        assert one.router.observed_weight().weights == Weights(stable=50, candidate=50)
        os.kill(one.rolling.pid(f"triton-pills-{one.spec.candidate[:8]}"), signal.SIGKILL)
        deadline = time.monotonic() + WITHIN
        while one.router.observed_weight().weights != ALL_STABLE:
            assert time.monotonic() < deadline, "the candidate keeps its share"
            one.look()
        assert one.state is before, "nothing was decided that is not written"
    one.ended()
    one.assert_stable_everywhere()


def test_a_full_disk_decides_nothing_and_the_rollout_goes_on_when_there_is_room(drive):
    one = drive("full")
    one.dosed(0)
    before, (soft, hard) = one.state, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (one.journal.log.stat().st_size + 100, hard))  # a torn line, then EFBIG
    try:
        for _ in range(5):
            one.look()
        assert one.state is before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert one.ended().phase is Phase.PROMOTED, one.state.reason


def test_scrapes_that_time_out_hold_the_step_and_conclude_nothing(drive, monkeypatch):
    one = drive("blind")
    one.dosed(0)
    before = one.state
    with socket.create_server(("127.0.0.1", 0)) as silent, monkeypatch.context() as patch:
        astray = SimpleNamespace(admin=silent.getsockname()[1])
        for module in (router, edge_counts):
            patch.setattr(module, "home_ports", lambda _: astray)
        for _ in range(2):
            one.look()
        verdicts = one.reconciler.last[1].verdicts
    assert (one.state.step, one.state.baked, one.state.weight) == (0, before.baked, 10)
    assert {v.outcome for v in verdicts if v.question == "sources"} == {Outcome.INCONCLUSIVE}
    assert all(v.outcome is Outcome.INCONCLUSIVE for v in verdicts if v.question == "weights")
    assert one.ended().phase is Phase.PROMOTED, one.state.reason


def test_an_abort_while_the_promotion_is_half_done_undoes_it(drive):
    """The traffic has changed its stable release, the registry does not answer; then somebody aborts."""
    one = drive("half")

    def away(*_):
        raise TemporaryError("the registry does not answer")

    one.moves = away
    one.until(lambda s: s.promotion == "begun" and wanted(one.rolling.home).stable == {"pills": one.spec.candidate})
    until(lambda: one.router.observed_weight().weights == ALL_STABLE)
    one.journal.command("abort", by="ada")
    assert one.ended().reason == "aborted by ada"
    one.assert_stable_everywhere()


@pytest.mark.parametrize("step", [Step(shadow=50), *STEPS], ids=lambda s: f"shadow {s.shadow}, weight {s.weight}")
def test_a_candidate_that_is_killed_at_any_step_fails_no_request(drive, step):
    """Once: it may come back in time, or the errors of its share say enough."""
    ahead = (Step(weight=50),) if step.weight == 100 else ()
    one = drive(f"killed {step.shadow} {step.weight}", steps=(*ahead, step))
    one.dosed(len(ahead))
    os.kill(one.rolling.pid(f"triton-pills-{one.spec.candidate[:8]}"), signal.SIGKILL)
    if one.ended().phase is Phase.ROLLED_BACK:
        one.assert_stable_everywhere()
