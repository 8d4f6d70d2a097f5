"""The decision log: every verdict comes out again, and a changed line or number is found."""

import json
import random

import pytest

from core import audit
from core.errors import PermanentError, UserError
from core.files import sha256_bytes
from serving.rollout.decision_log import replay
from serving.rollout.engine import begin, decide
from serving.rollout.journal import Journal
from serving.rollout.observations import Observation
from serving.rollout.reconcile import start
from serving.rollout.spec import Confirm, Step
from serving.rollout.state import Phase, RolloutState
from serving.rollout.timeline import timeline_html
from serving.rollout.watch import watch_lines
from tests.unit.serving.rollout.world import CLASSES, World, quick_spec

STEPS = (Step(shadow=20, bake_seconds=10, min_requests=50), Step(weight=20, bake_seconds=10, min_requests=50))


def _rechained(lines):
    """The lines with every hash right again, as somebody would who knows the format."""
    previous, made = audit.GENESIS, []
    for line in lines:
        entry = json.loads(line) | {"previous": previous}
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = sha256_bytes(text.encode())
        made.append(text)
    return "\n".join(made) + "\n"


@pytest.mark.parametrize("bad", [{}, {"errors": 0.2}], ids=["ends at stable", "rolled back"])
def test_every_verdict_comes_out_again(drive, bad):
    world = World()
    world.candidate_bad = bad
    done = drive(quick_spec(steps=STEPS, classes=CLASSES), world)
    looks = replay(done.journal.log)
    assert looks[-1].decision.state == done.state and len(looks) == done.state.seen


def test_changed_line_is_found(drive):
    log = drive(quick_spec(steps=STEPS)).journal.log
    lines = log.read_text().splitlines()
    lines[5] = lines[5].replace('"candidate":', '"candidate" :', 1)
    log.write_text("\n".join(lines) + "\n")
    with pytest.raises(PermanentError, match="line 7: the line before it was changed"):
        replay(log)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e["evidence"]["errors"].__setitem__(0, 3.0), "evidence is written as"),
        (lambda e: e["observation"]["readings"][0]["counts"]["errors"].__setitem__(1, 5), "totals is written as"),
        (lambda e: e.update(phase="promoted"), "phase is written as"),
        (lambda e: e["intended"].update(candidate=99, stable=1), "intended is written as"),
        (lambda e: e.update(verdicts=[]), "verdicts is written as"),
        (lambda e: e.pop("actions"), "actions is missing"),
    ],
    ids=["evidence", "input", "phase", "weight", "verdict", "missing"],
)
def test_changed_number_is_found_even_when_every_hash_is_made_right(drive, change, message):
    world = World()
    world.apply = lambda weights: None  # so that an engine's own verdict (weights) is in the log
    log = drive(quick_spec(steps=STEPS), world, looks=20).journal.log
    lines = log.read_text().splitlines()
    entry = json.loads(lines[15])
    change(entry)
    lines[15] = json.dumps(entry)
    log.write_text(_rechained(lines))
    with pytest.raises(PermanentError, match=message):
        replay(log)


def test_removed_end_is_found_by_the_next_process(drive):
    journal = drive(quick_spec(steps=STEPS), looks=8).journal
    journal.log.write_text("\n".join(journal.log.read_text().splitlines()[:-2]) + "\n")
    with pytest.raises(PermanentError, match=r"the end of decisions\.jsonl was removed"):
        journal.load()


@pytest.mark.parametrize("bad", [{}, {"errors": 0.2}], ids=["ends at stable", "rolled back"])
def test_observations_in_any_order_and_repeated_give_the_same_state(drive, bad):
    world = World()
    world.candidate_bad = bad
    done = drive(quick_spec(steps=STEPS), world)
    looks = [look.observation for look in replay(done.journal.log)]
    mixed = looks * 2
    random.Random(7).shuffle(mixed)
    assert decide(done.spec, begin(done.spec, done.state.id), mixed).state == done.state


def test_file_that_is_no_command_is_put_aside(drive):
    done = drive(quick_spec(steps=STEPS), looks=4)
    (done.journal.folder / "commands").mkdir()
    (done.journal.folder / "commands" / "x.json").write_text('{"name": "promote!"}')
    done.look()
    assert not done.journal.waiting() and (done.journal.folder / "commands" / "x.refused").exists()


def test_router_that_cannot_do_it_refuses_before_anything_is_written(tmp_path):
    world = World()
    world.cannot = "mirror"
    with pytest.raises(UserError, match="cannot mirror"):
        start(tmp_path, quick_spec(), world)
    assert list(tmp_path.iterdir()) == []


def test_spec_edited_while_it_runs_is_refused_and_guards_on(drive):
    done = drive(quick_spec(), looks=12)
    edited = done.spec.model_copy(update={"alpha": 0.2})
    decision = done.offer(edited)
    assert decision.state is done.state and decision.actions == ()
    assert "abort it and start a new one" in decision.verdicts[0].reason
    seen = Observation(sequence=done.state.seen + 1, at=done.state.at)
    assert decide(edited, done.state, [seen]).state is done.state


def test_second_rollout_of_one_workload_is_refused_until_the_first_has_ended(drive, tmp_path):
    done = drive(quick_spec(steps=STEPS), looks=6)
    root = done.journal.folder.parent.parent
    with pytest.raises(UserError, match="has not ended; abort it"):
        Journal.create(root, quick_spec())
    done.journal.command("abort", by="ada")
    for _ in range(5):
        done.look()
    assert done.state.phase is Phase.ROLLED_BACK
    assert Journal.create(root, quick_spec()).id.startswith("0002-")


def test_two_processes_cannot_reconcile_one_rollout(drive):
    journal = drive(quick_spec(steps=STEPS), looks=3).journal
    with journal.held(), pytest.raises(UserError, match="already being reconciled"), Journal(journal.folder).held():
        pytest.fail("two at once")


def test_state_survives_json(drive):
    state = drive(quick_spec(classes=CLASSES), looks=30).state
    assert RolloutState.model_validate_json(state.model_dump_json()) == state


def test_log_that_cannot_be_written_holds_everything_but_a_rollback(drive, monkeypatch):
    world = World()
    done = drive(quick_spec(), world, looks=16)
    before, weight = done.state, world.weights.candidate
    assert weight > 0

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit, "append", full)
    for _ in range(30):
        done.look()
        world.pass_time()
    assert done.state is before and world.weights.candidate == weight
    world.candidate_bad = {"errors": 0.9}
    for _ in range(3):
        world.pass_time()
        done.look()
    assert world.weights.candidate == 0 and done.state is before
    monkeypatch.undo()
    for _ in range(10):
        done.look()
        world.pass_time()
    assert done.state.phase is Phase.ROLLED_BACK
    assert replay(done.journal.log)[-1].decision.state == done.state


def test_timeline_stands_alone_and_tells_the_end(drive):
    world = World()
    world.candidate_bad = {"errors": 0.2}
    done = drive(quick_spec(workload="<b>pills"), world)
    page = timeline_html(done.journal.log)
    assert "rolled back" in page and "polyline" in page and "aborted" not in page
    assert "<b>pills" not in page and "http" not in page and "<script" not in page


def test_watch_shows_weights_evidence_and_what_is_next(drive):
    done = drive(quick_spec(classes=CLASSES), looks=14)
    lines = watch_lines(done.state, done.spec)
    assert any("stable 95 %, candidate 5 % (in force)" in line for line in lines), lines
    assert any(line.startswith("errors") and line.count("[") == 2 for line in lines)
    assert lines[-1].startswith("next: weight 10 %, after ")
    assert "and 11 groups with less evidence of harm" in lines
    assert max(map(len, lines)) <= 120


def test_watch_says_what_is_next_in_every_phase(drive):
    confirm = Confirm(name="ward", url="http://ward/", before="promotion")
    steps = (Step(weight=50, bake_seconds=5, deadline_seconds=900, approval=True), Step(weight=100, bake_seconds=5))
    seen = {}

    def act(_, reconciler):
        seen[reconciler.state.phase] = watch_lines(reconciler.state, reconciler.spec)[-1]
        if reconciler.state.phase is Phase.APPROVAL:
            reconciler.journal.command("approve", by="ada")

    done = drive(quick_spec(steps=steps, confirms=(confirm,)), each=act)
    seen[done.state.phase] = watch_lines(done.state, done.spec)[-1]
    assert seen == {
        Phase.PREPARING: "next: checks, when the candidate is ready",
        Phase.CHECKING: "next: the first step, when the checks pass",
        Phase.STEPPING: seen[Phase.STEPPING],
        Phase.APPROVAL: "next: weight 100 %, after somebody approves step 1",
        Phase.CONFIRMING: "next: promotion, after a yes from ward",
        Phase.PROMOTING: "next: promoted, when router and registry have the candidate as stable",
        Phase.PROMOTED: "next: nothing; the candidate is stable now",
    }
    assert seen[Phase.STEPPING].startswith("next: promotion, after ")


def test_watch_says_why_it_goes_back(drive):
    world = World()
    world.candidate_bad, seen = {"errors": 0.5}, set()
    drive(quick_spec(), world, each=lambda _, r: seen.add(watch_lines(r.state, r.spec)[-1]))
    assert any(
        line.startswith("next: rolled back, when stable has all traffic again; because: errors") for line in seen
    )
