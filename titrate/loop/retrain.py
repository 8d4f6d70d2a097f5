"""The retraining controller of one workload: observes, asks `should_retrain`, begins jobs and follows them."""

import logging
import secrets
import subprocess  # nosec B404 # to name the type of a job's process
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from core import audit
from core.config import Config
from core.dataset import DatasetInfo
from core.errors import UserError
from core.files import write_atomic
from core.home import Home
from core.lineage import Lineage
from core.objects import Store
from core.slo import Slo
from serving.retraining.decide import Decision, RetrainingState, Seen, ended, should_retrain
from serving.rollout.journal import Journal
from titrate.loop import jobs
from titrate.loop.answers import AnsweredEvents
from titrate.loop.jobs import Job
from titrate.loop.settings import LoopSettings, folder
from titrate.loop.watch import Alarm
from titrate.stack.releases import fetched
from titrate.stack.state import wanted
from workloads.contract import load as load_workload

logger = logging.getLogger(__name__)


class Kept(Config):
    """`retraining.json`."""

    state: RetrainingState = RetrainingState()
    reason: str = "it has not been looked at yet"
    """Of the last decision."""
    new_samples: int | None = None
    score: float | None = None
    job: str | None = None
    """The one that goes on."""
    counted: tuple[int, int] = (0, 0)
    """(wrong, right) labelled answers of the window."""


class Look(NamedTuple):
    """What one turn of the controller came to."""

    kept: Kept
    ended: Job | None = None
    """The job that just did."""


class Request(Config):
    """`asked.json`: somebody wants a training now."""

    by: str
    why: str


class Retraining:
    """One workload of a home."""

    def __init__(self, home: Home, workload: str) -> None:
        self._home, self._workload = home, workload
        self._answers = AnsweredEvents(home)
        self._file = folder(home, workload) / "retraining.json"
        self._process: subprocess.Popen[bytes] | None = None

    def turn(self, asked: LoopSettings, release: str, score: float | None, alarm: Alarm | None, now: datetime) -> Look:
        """Follow the open job, or look whether one is to begin. Raises TitrateError when something cannot be read."""
        kept = load(self._home, self._workload)
        if kept.job:
            return self._follow(kept, jobs.job_of(self._home, self._workload, kept.job), now)
        request = _request(self._home, self._workload)
        if not request and not (asked.automatic and _is_due(asked, kept.state, now)):
            return Look(kept)
        source = Path(asked.source) if asked.source else jobs.source_of(self._home, release)
        there = load_workload(self._workload).data.read_source(source)
        samples = len(there.rows) + len(there.refused)
        seen = self._seen(release, samples, score, alarm, request, now)
        decision = should_retrain(asked.retraining, kept.state, seen)
        job = self._recorded(decision, release, source, samples, asked.config) if decision.start else None
        kept = kept.model_copy(update={"job": job.id if job else None})
        kept = self._keep(kept, decision.state, decision.reason, seen)
        if request:
            _request_file(self._home, self._workload).unlink(missing_ok=True)
        return Look(kept)

    def _seen(
        self,
        release: str,
        samples: int,
        score: float | None,
        alarm: Alarm | None,
        request: Request | None,
        now: datetime,
    ) -> Seen:
        since = now - timedelta(hours=Slo.load(self._workload).drift.window_hours)
        answers = self._answers.answers(self._workload, release, int(since.timestamp() * 1e6))
        return Seen(
            now=now,
            new_samples=max(0, samples - self._trained_on(release)),
            wrong=answers.wrong,
            right=answers.right,
            score=score,
            alarm=alarm.said if alarm and alarm.release == release else None,
            busy=_busy(self._home, self._workload),
            asked=f"{request.why} ({request.by})" if request else None,
        )

    def _trained_on(self, release: str) -> int:
        """Samples of the source that the last training saw, good or not: of the last job, else of the release's run."""
        finished = [job for job in jobs.all_jobs(self._home, self._workload) if job.status == "promoted"]
        if finished:
            return finished[-1].samples
        dataset = Lineage.from_file(fetched(self._home, release) / "lineage.json").dataset
        store = Store(str(self._home.objects))
        info = DatasetInfo.from_file(
            store.fetch(f"datasets/{dataset}", self._home.cache / "datasets" / dataset) / "dataset.json"
        )
        return info.rows + info.quarantined

    def _recorded(self, decision: Decision, release: str, source: Path, samples: int, config: str | None) -> Job:
        """The record of the job that the decision begins; the next turn starts its process."""
        now = decision.state.starts[-1]
        name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        file = folder(self._home, self._workload) / "jobs" / name / "config.json"
        write_atomic(file, self._configuration(release, config))
        job = Job(
            id=name,
            workload=self._workload,
            trigger=decision.start or "",
            why=decision.reason,
            triggered_at=decision.state.pending_since or now,
            started_at=now,
            source=str(source),
            samples=samples,
            base=release,
            config=str(file),
        )
        self._told("retraining_began", jobs.save(self._home, job))
        return job

    def _configuration(self, release: str, given: str | None) -> str:
        """The run configuration as JSON; raises UserError for one that cannot be read or means nothing."""
        run = Lineage.from_file(fetched(self._home, release) / "lineage.json").run
        file = Path(given) if given else self._home.runs / run / "config.json"
        try:
            return load_workload(self._workload).configuration(file.read_text()).model_dump_json(indent=2)
        except OSError as error:
            raise UserError(f"cannot read the run configuration {str(file)!r}: {error.strerror}") from error

    def _follow(self, kept: Kept, job: Job, now: datetime) -> Look:
        if job.status == "training" and (self._process is None or self._process.poll() is not None):
            if job.attempts < jobs.ATTEMPTS:
                self._process = jobs.begin(self._home, job)
                return Look(kept)
            job = jobs.died(self._home, job)
        if job.status == "rolling out":
            job = jobs.rolled(self._home, job)
        if job.is_open:
            return Look(kept)
        self._told("retraining_ended", job)
        if job.status != "promoted":
            logger.error("a retraining failed", extra={"facts": {"job": job.id, "error": job.error}})
        reason = f"job {job.id} {job.status} {job.error or ''}".rstrip()
        state = ended(kept.state, now, job.status == "promoted")
        return Look(self._keep(kept.model_copy(update={"job": None}), state, reason), job)

    def _told(self, kind: str, job: Job) -> None:
        audit.append(self._home.root / "audit.jsonl", kind, **{"job": job.model_dump(mode="json")})

    def _keep(self, kept: Kept, state: RetrainingState, reason: str, seen: Seen | None = None) -> Kept:
        changes: dict[str, object] = {"state": state, "reason": reason}
        if seen:
            changes |= {"new_samples": seen.new_samples, "score": seen.score, "counted": (seen.wrong, seen.right)}
        kept = kept.model_copy(update=changes)
        write_atomic(self._file, kept.model_dump_json(indent=1))
        return kept


def load(home: Home, workload: str) -> Kept:
    """What the controller last wrote."""
    file = folder(home, workload) / "retraining.json"
    return Kept.from_file(file) if file.exists() else Kept()


def ask(home: Home, workload: str, by: str, why: str) -> None:
    """Want a training now; the loop takes it up at its next turn. Raises UserError while one goes on."""
    if workload not in wanted(home).stable:
        raise UserError(f"no release of {workload!r} serves; `titrate run {workload} --data DIR` makes the first one")
    if job := load(home, workload).job:
        raise UserError(f"job {job} of {workload!r} goes on already; `titrate loop status` shows it")
    write_atomic(_request_file(home, workload), Request(by=by, why=why).model_dump_json())


def _is_due(asked: LoopSettings, state: RetrainingState, now: datetime) -> bool:
    return state.looked_at is None or now >= state.looked_at + timedelta(hours=asked.retraining.look_hours)


def _busy(home: Home, workload: str) -> str | None:
    for journal in Journal.all(home.root / "rollouts", workload)[-1:]:
        if not journal.load()[1].ended:
            return f"rollout {journal.id} goes on"
    return None


def _request_file(home: Home, workload: str) -> Path:
    return folder(home, workload) / "asked.json"


def _request(home: Home, workload: str) -> Request | None:
    file = _request_file(home, workload)
    return Request.from_file(file) if file.exists() else None
