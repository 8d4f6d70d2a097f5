"""Whole rollouts on a whole stack under traffic without pause: promoted, rolled back, killed half-way, commanded."""

import contextlib
import os
import signal
import subprocess
import sys

import httpx
import pytest
from click.testing import CliRunner

from components.register.registry import STABLE
from core import audit
from core.errors import PermanentError, UserError
from core.release import SIGNATURE, seal
from core.signing import ensure_keys
from serving.rollout.spec import Readiness, Step
from serving.rollout.state import Phase
from serving.triton.server import stubs
from tests.rollout_home import WITHIN, Labelled, Rolling, Traffic
from tests.stack_home import until
from titrate.cli import main
from titrate.gc import unneeded
from titrate.rollouts import control
from titrate.stack.control import down, status, up
from titrate.stack.releases import fetched
from titrate.stack.state import wanted

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, when it is imported


@pytest.fixture(scope="module")
def rolling(tmp_path_factory):
    one = Rolling(tmp_path_factory.mktemp("rolling"))
    up(one.home)
    yield one
    down(one.home)


@pytest.fixture
def traffic(rolling):
    with Traffic(rolling) as one:
        yield one
    one.check()


def test_a_good_candidate_is_promoted_whoever_is_killed_meanwhile(rolling, traffic):
    """kill -9 of the reconciler, of Envoy, of the candidate's model and of stable's, at different steps."""
    candidate = rolling.release("none", "good")
    spec = rolling.spec(candidate, readiness=Readiness(restarts=3))
    journal = control.start(rolling.home, spec)
    with pytest.raises(UserError, match=f"rollout {journal.id} of 'pills' has not ended"):
        control.start(rolling.home, spec)
    victims = {0: "rollouts", 1: "envoy", 2: f"triton-pills-{rolling.stable[:8]}"}
    for step, victim in victims.items():
        until(lambda step=step: rolling.state(journal).step >= step or rolling.state(journal).ended, WITHIN)
        os.kill(rolling.pid(victim), signal.SIGKILL)
    state = rolling.ended(journal)
    assert state.phase is Phase.PROMOTED, state.reason
    assert wanted(rolling.home).stable == {"pills": candidate}
    assert wanted(rolling.home).kept == {"pills": rolling.stable}
    assert rolling.stable not in {found.name for found in unneeded(rolling.home)}, "the way back is kept"
    assert rolling.registry.get("pills", STABLE).digest == candidate
    assert [e["kind"] for e in audit.read(rolling.home.root / "audit.jsonl")] == ["promoted"]
    looks, replayed = control.replay(journal)
    assert (looks, replayed) == (state.seen, state)
    with httpx.Client(timeout=30) as client:
        until(lambda: rolling.ask(client)[1] == candidate)
        assert "serves 'pills' again" in control.rollback(rolling.home, "pills")
        until(lambda: rolling.ask(client)[1] == rolling.stable, 5)
    assert rolling.registry.get("pills", STABLE).digest == rolling.stable


@pytest.mark.parametrize(("fault", "metric"), [("failing", "errors"), ("crashing", "errors|crashes")])
def test_harm_is_rolled_back_and_no_client_sees_it(rolling, traffic, fault, metric):
    candidate = rolling.release(fault)
    journal = control.start(rolling.home, rolling.spec(candidate))
    state = rolling.ended(journal)
    assert state.phase is Phase.ROLLED_BACK
    assert any(word in state.reason for word in metric.split("|")), state.reason
    assert wanted(rolling.home).stable == {"pills": rolling.stable}
    assert wanted(rolling.home).candidates == {}
    assert rolling.registry.get("pills", STABLE).digest == rolling.stable
    looks, _ = control.replay(journal)
    assert looks == state.seen
    until(lambda: all(candidate[:8] not in service.name for service in status(rolling.home)))


def test_wrong_answers_are_found_by_the_labels_that_people_post(rolling):
    candidate = rolling.release("wrong", "labelled")
    with Labelled(rolling) as traffic:
        steps = (Step(weight=20, min_labels=20), Step(weight=60, min_labels=20))
        journal = control.start(rolling.home, rolling.spec(candidate, steps=steps))
        state = rolling.ended(journal)
    assert (state.phase, state.reason[:9]) == (Phase.ROLLED_BACK, "accuracy:"), state.reason
    assert set(traffic.by_release) <= {(200, rolling.stable, True), (200, candidate, True), (200, candidate, False)}
    assert control.replay(journal)[0] == state.seen


def test_answers_that_differ_from_stables_are_found_before_any_client_sees_one(rolling):
    candidate = rolling.release("wrong", "mirrored")
    with Labelled(rolling, said=False) as traffic:
        journal = control.start(rolling.home, rolling.spec(candidate, steps=(Step(shadow=50), Step(weight=60))))
        state = rolling.ended(journal)
    assert (state.phase, state.reason[:10]) == (Phase.ROLLED_BACK, "agreement "), state.reason
    assert set(traffic.by_release) == {(200, rolling.stable, True)}


def test_a_killed_candidate_fails_no_request(rolling, traffic):
    """Its model dies twice with half of the traffic: stable answers meanwhile, and it is rolled back."""
    candidate = rolling.release("none", "killed")
    steps = (Step(weight=50), Step(weight=60))
    journal = control.start(rolling.home, rolling.spec(candidate, steps=steps))
    until(lambda: rolling.state(journal).in_force and rolling.state(journal).step == 0, WITHIN)
    for _ in range(2):
        with contextlib.suppress(StopIteration, IndexError, ProcessLookupError):
            os.kill(stubs(rolling.pid(f"triton-pills-{candidate[:8]}"))[0], signal.SIGKILL)
        until(lambda: rolling.state(journal).phase is not Phase.STEPPING or ready(rolling, candidate), WITHIN)
    state = rolling.ended(journal)
    assert state.phase in (Phase.ROLLED_BACK, Phase.COMPLETED)


def ready(rolling, release):
    return any(release[:8] in s.name and s.state == "ready" for s in status(rolling.home))


def test_people_pause_go_on_abort_and_try_again(rolling, traffic):
    journal = control.start(rolling.home, rolling.spec(rolling.release("none", "people")))
    until(lambda: rolling.state(journal).step == 0, WITHIN)
    assert "paused" in control.command(rolling.home, "pills", "pause")
    with pytest.raises(UserError, match="nothing waits for an approval"):
        control.command(rolling.home, "pills", "approve")
    control.command(rolling.home, "pills", "resume")
    assert not rolling.state(journal).paused
    assert "restoring" in control.rollback(rolling.home, "pills")
    assert "aborted by" in rolling.ended(journal).reason
    with pytest.raises(UserError, match="rolled back"):
        control.command(rolling.home, "pills", "pause")
    assert "attempt 2" in control.command(rolling.home, "pills", "retry")
    until(lambda: rolling.state(journal).step == 0, WITHIN)
    control.command(rolling.home, "pills", "abort")
    assert rolling.ended(journal).attempt == 2


def test_a_candidate_that_never_gets_ready_is_given_up(rolling):
    digest = rolling.release("none", "never")
    journal = control.start(rolling.home, rolling.spec(digest, readiness=Readiness(seconds=0.5, restarts=1)))
    assert "ready" in (state := rolling.ended(journal)).reason
    assert (state.phase, state.weight) == (Phase.ROLLED_BACK, 0)


def test_a_second_reconciler_is_refused(rolling):
    line = [sys.executable, "-m", "titrate.rollouts", str(rolling.home.root)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "being reconciled already" in done.stderr


def flipped(folder, keys):
    file = folder / "pills" / "1" / "model.json"
    file.write_bytes(file.read_bytes().replace(b"red", b"rad"))


def unsigned(folder, keys):
    (folder / SIGNATURE).unlink()


def strangers(folder, keys):
    seal(folder, ensure_keys(keys)[0])


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (flipped, r"model\.json.*refusing to serve"),
        (unsigned, "is missing; it was never sealed"),
        (strangers, "the signature does not verify"),
    ],
)
def test_a_release_that_is_not_as_we_signed_it_is_refused_before_anything_changes(rolling, tmp_path, harm, why):
    before = wanted(rolling.home)
    digest = rolling.release("none", harm.__name__)
    harm(fetched(rolling.home, digest), tmp_path)
    with pytest.raises(PermanentError, match=why):
        control.start(rolling.home, rolling.spec(digest))
    assert wanted(rolling.home) == before


def test_stable_itself_is_no_candidate(rolling):
    before = wanted(rolling.home)
    with pytest.raises(ValueError, match="nothing to roll out"):
        rolling.spec(rolling.stable)
    assert wanted(rolling.home) == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--candidate", "pills:stable"], "nothing to roll out"),
        (["--candidate", "feed"], "is no release; registered: pills:"),
        (["--weights", "25,5,100"], "weights fall from 25 to 5"),
        (["--weights", "5,5"], "step 5 % repeats"),
        (["--weights", "5,120"], "less than or equal to 100"),
        (["--weights", "5,x"], "give whole percents"),
        (["--preset", "blue"], "did you mean 'blue_green'"),
        (["--spec", "nowhere.json"], "cannot read the configuration"),
    ],
)
def test_nonsense_is_refused_with_the_way_out(rolling, options, reason):
    rolling.release("none", "asked")
    line = ["rollout", "plan", "pills", "--rate", "50", "--home", str(rolling.home.root)]
    done = CliRunner().invoke(main, [*line, *options])
    assert (done.exit_code, reason in done.output) == (2, True), done.output


def test_the_plan_says_what_cannot_come_with_the_number(rolling):
    rolling.release("none", "asked")
    line = ["rollout", "plan", "pills", "--home", str(rolling.home.root), "--no-labels", "--rate"]
    enough = CliRunner().invoke(main, [*line, "400"])
    assert enough.exit_code == 0
    assert "problem" not in enough.output
    assert "smallest harm" in enough.output
    too_few = CliRunner().invoke(main, [*line, "0.01"])
    assert "problem  step 1: 100 requests comes after about" in too_few.output


def test_a_tampered_log_is_found(rolling):
    journal = control.newest(rolling.home, "pills")
    lines = journal.log.read_bytes().splitlines(keepends=True)
    changed = lines[1].replace(b'"phase":"preparing"', b'"phase":"promoted"')
    assert changed != lines[1]
    journal.log.write_bytes(b"".join([lines[0], changed, *lines[2:]]))
    with pytest.raises(PermanentError, match=r"line [23]"):
        control.replay(journal)
    journal.log.write_bytes(b"".join(lines))
    assert control.replay(journal)[0] == len(lines) - 1
