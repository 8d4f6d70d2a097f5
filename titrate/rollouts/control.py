"""What the commands of `titrate rollout` do: they read the journals and leave commands; the loop does the rest."""

import getpass
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from core.config import Config
from core.errors import PermanentError, TemporaryError, UserError, nearest
from core.files import write_atomic
from core.home import Home
from serving.rollout import reconcile
from serving.rollout.decision_log import iterate
from serving.rollout.journal import Journal
from serving.rollout.observations import Command, CommandName
from serving.rollout.spec import RolloutSpec
from serving.rollout.state import Phase, RolloutState
from serving.rollout.timeline import timeline_html
from serving.rollout.watch import watch_lines
from titrate.promote import roll_back
from titrate.rollouts.event_counts import EventCounts
from titrate.rollouts.loop import root
from titrate.rollouts.router import EnvoyRouter
from titrate.stack.releases import verified
from titrate.stack.state import supervisor_pid

TAKEN_WITHIN = 30.0
"""Seconds until the loop must have taken a command."""
POLL = 0.1
CLEAR = "\x1b[H\x1b[J"


class Row(Config):
    """One rollout of a list."""

    id: str
    workload: str
    phase: str
    candidate: str
    began: str
    looks: int
    reason: str


def start(home: Home, spec: RolloutSpec) -> Journal:
    """Begin a rollout, which the stack's loop takes up. Raises UserError, or PermanentError for a release that does not
    verify; then nothing was changed."""
    for digest in (spec.stable, spec.candidate):
        verified(home, digest)
    EventCounts(home).check(spec)
    return reconcile.start(root(home), spec, EnvoyRouter(home, spec.workload, spec.routing))


def newest(home: Home, workload: str) -> Journal:
    """The last rollout of a workload; raises UserError when there is none."""
    found = Journal.all(root(home), workload)
    if not found:
        raise UserError(f"no rollout of {workload!r}; `titrate rollout start {workload}` begins one")
    return found[-1]


def find(home: Home, rollout: str) -> Journal:
    """A rollout by its id or the beginning of it; raises UserError."""
    every = list(_all(home))
    hits = [one for one in every if one.id.startswith(rollout)]
    if len(hits) == 1:
        return hits[0]
    problem = "names more than one rollout" if hits else "is no rollout"
    raise UserError(f"{rollout!r} {problem}; {nearest(rollout, [one.id for one in every])}")


def history(home: Home, workload: str | None) -> list[Row]:
    """All rollouts, newest first."""
    rows = [_row(one) for one in _all(home) if workload in (None, one.folder.parent.name)]
    return sorted(rows, key=lambda row: row.began, reverse=True)


def command(home: Home, workload: str, name: CommandName, step: int | None = None) -> str:
    """Leave a command for the loop and wait until it was taken; what came of it.

    Raises UserError when it is refused, TemporaryError when nobody takes it.
    """
    journal = newest(home, workload)
    _require_loop(home)
    offset = journal.log.stat().st_size
    given = journal.command(name, getpass.getuser(), step)
    deadline = time.monotonic() + TAKEN_WITHIN
    while any(waiting.id == given.id for waiting in journal.waiting()):
        if time.monotonic() > deadline:
            raise TemporaryError(f"nobody took {name!r} of rollout {journal.id} in {TAKEN_WITHIN:g} s; it waits")
        time.sleep(POLL)
    if refused := _refusal(journal, offset, given):
        raise UserError(refused)
    spec, state = journal.load()
    return watch_lines(state, spec)[1]


def watch(home: Home, workload: str, show: Callable[[str], None], seconds: float = 1.0) -> RolloutState:
    """Show the rollout after every look until it has ended; redrawn in place on a terminal."""
    journal = newest(home, workload)
    seen = -1
    while True:
        spec, state = journal.load()
        if state.seen != seen:
            seen = state.seen
            clear = CLEAR if sys.stdout.isatty() else ""
            show(clear + "\n".join(watch_lines(state, spec)))
        if state.ended:
            return state
        _require_loop(home)
        time.sleep(seconds)


def timeline(journal: Journal) -> Path:
    """Write the rollout's story beside its log; returns the file."""
    file = journal.folder / "timeline.html"
    write_atomic(file, timeline_html(journal.log))
    return file


def replay(journal: Journal) -> tuple[int, RolloutState | None]:
    """Compute every decision again: (looks, the state at the end). Raises PermanentError at the first difference."""
    looks, state = 0, None
    for one in iterate(journal.log):
        looks, state = looks + 1, one.decision.state
    kept = journal.load()[1]
    if state is not None and kept != state:
        raise PermanentError(f"rollout {journal.id}: {journal.folder.name}/state.json does not follow from its log")
    return looks, state


def rollback(home: Home, workload: str) -> str:
    """Back to stable: aborts a rollout that goes on, else gives all traffic to the former stable release."""
    goes_on = [one for one in Journal.all(root(home), workload)[-1:] if not one.load()[1].ended]
    if goes_on:
        return f"rollout {goes_on[0].id}: {command(home, workload, 'abort')}"
    new, old = roll_back(home, workload, f"by hand: {getpass.getuser()}")
    return f"stable   {new[:12]} serves {workload!r} again; {old[:12]} is kept ready without traffic"


def _all(home: Home) -> Iterator[Journal]:
    for folder in sorted(root(home).glob("*")):
        if folder.is_dir():
            yield from Journal.all(root(home), folder.name)


def _row(journal: Journal) -> Row:
    spec, state = journal.load()
    return Row(
        id=journal.id,
        workload=spec.workload,
        phase=state.phase.value.replace("_", " "),
        candidate=spec.candidate,
        began=journal.began.isoformat(timespec="seconds"),
        looks=state.seen,
        reason=state.reason if state.phase is not Phase.PROMOTED else "",
    )


def _refusal(journal: Journal, offset: int, given: Command) -> str | None:
    """Why a command was refused, from the entries of the log behind `offset` bytes."""
    with journal.log.open("rb") as file:
        file.seek(offset)
        entries = [json.loads(line) for line in file if line.endswith(b"\n")]
    for entry in entries:
        if any(taken["id"] == given.id for taken in entry["observation"].get("commands", ())):
            mine = f"command {given.name} by {given.by}"
            return next((f"{given.name} is {v['reason']}" for v in entry["verdicts"] if v["question"] == mine), None)
    return None


def _require_loop(home: Home) -> None:
    if supervisor_pid(home) is None:
        raise UserError("the stack is not running, so nobody reconciles; `titrate stack up` starts it")
