"""A step waits for its job: creates it or finds it again, shows its log, raises its error, removes it.

What the job's processes report (core/step.py) is read from the volume that step and job share. A job that ends without
a report, as when its nodes go, or that reports that it was interrupted, is made again and goes on from its checkpoint.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from components.jobs.cluster import Cluster, Kind
from components.jobs.manifest import Json
from components.jobs.place import Limits
from components.jobs.states import LATE, OUTCOMES, Outcome
from core.errors import TemporaryError, TitrateError, UserError
from core.step import reported

POLL_SECONDS, PATIENCE = 2.0, 30
"""Between two looks; how many in a row the API server may be away."""
SLACK_SECONDS = 120
"""After its deadline a job may take so long to say that it is over."""
MOST_SAID = 600
"""Characters of what the cluster says: Ray's advice on memory alone has thousands."""
GONE_SECONDS = 180
"""Until an earlier attempt's pods have ended: they write a checkpoint first."""


@dataclass(frozen=True)
class Task:
    """A job as a step needs it."""

    kind: Kind
    manifest: Json
    show: Callable[[Json], None]
    """Prints what is new in its log; called at each look with the job."""
    report: Path
    """The file that its processes write their error to."""

    @property
    def name(self) -> str:
        """Of the job."""
        return str(self.manifest["metadata"]["name"])

    def outcome(self, job: Json) -> Outcome:
        """How far it is."""
        return OUTCOMES[self.kind](job)


def run(cluster: Cluster, task: Task, limits: Limits, poll: float = POLL_SECONDS) -> None:
    """Return when the job has succeeded. However this ends, SIGTERM included, the job is removed.

    Raises the error that the job's processes reported; UserError when the deadline is over; TemporaryError when it
    was interrupted more often than `limits.retries`.
    """
    for left in reversed(range(limits.retries + 1)):
        with _interruptible(), _removed(cluster, task):
            _start(cluster, task, poll)
            error = _end(cluster, task, limits.deadline, poll)
        if error is None:
            return
        if not left or not isinstance(error, TemporaryError):
            raise error
        say(f"{task.name}: {error}; it is made again, {left} times at most")


def say(line: str) -> None:
    """A line in the step's output."""
    print(line, flush=True)


def _start(cluster: Cluster, task: Task, poll: float) -> None:
    """Create the job, or take over the one that an earlier attempt of this step left running."""
    found = cluster.get(task.kind, task.name)
    if found and "deletionTimestamp" not in found["metadata"] and task.outcome(found).state != "failed":
        say(f"{task.name}: found again")
        if owners := task.manifest["metadata"].get("ownerReferences"):
            cluster.own(task.kind, task.name, owners)
        return
    if found:
        cluster.delete(task.kind, task.name)
        _gone(cluster, task, poll)
    task.report.unlink(missing_ok=True)
    cluster.create(task.kind, task.manifest)
    say(f"{task.name}: created")


def _gone(cluster: Cluster, task: Task, poll: float) -> None:
    ends = time.monotonic() + GONE_SECONDS
    while cluster.get(task.kind, task.name):
        if time.monotonic() > ends:
            raise TemporaryError(f"{task.name}, an earlier attempt, does not end", delay=GONE_SECONDS)
        time.sleep(poll)


def _end(cluster: Cluster, task: Task, deadline: float, poll: float) -> TitrateError | None:
    """Wait for the job's end: none when it succeeded, else what went wrong."""
    ends, away = time.monotonic() + deadline + SLACK_SECONDS, 0
    while time.monotonic() < ends:
        try:
            job = cluster.get(task.kind, task.name)
            if job is None:
                return TemporaryError(f"{task.name} was removed by somebody else")
            task.show(job)
            away = 0
        except TemporaryError:
            away += 1
            if away == PATIENCE:
                raise
        else:
            outcome = task.outcome(job)
            error = reported(task.report)
            if outcome.state != "running" or error:
                return _verdict(task, outcome, error)
        time.sleep(poll)
    return _late(task, "it did not end")


def _verdict(task: Task, outcome: Outcome, error: TitrateError | None) -> TitrateError | None:
    if outcome.state == "succeeded":
        return None
    if error:
        return error
    said = f"{outcome.reason} {outcome.message}".strip()[:MOST_SAID] or "no reason"
    if outcome.reason == LATE:
        return _late(task, said)
    return TemporaryError(f"{task.name} ended without an error of ours: {said}; its log is above")


def _late(task: Task, said: str) -> UserError:
    return UserError(
        f"{task.name} took longer than its deadline ({said}); raise `deadline` in the platform file. "
        "The same step goes on from the last checkpoint"
    )


@contextlib.contextmanager
def _removed(cluster: Cluster, task: Task) -> Iterator[None]:
    try:
        yield
    finally:
        try:
            cluster.delete(task.kind, task.name)
        except TitrateError as error:  # what ended the block matters more
            say(f"{task.name} could not be removed, the reaper will: {error}")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM raises TemporaryError in the block, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupted(signum: int, frame: FrameType | None) -> None:
    raise TemporaryError("the step was interrupted; the same step goes on from the last checkpoint")
