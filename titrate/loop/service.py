"""Everything the loop looks after in one home, turn by turn, and what Prometheus reads of it."""

import contextlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from core.errors import TitrateError
from core.home import Home
from serving.drift.cause import Cause
from titrate.drift import status
from titrate.loop.retrain import Look, Retraining
from titrate.loop.settings import LoopSettings, settings
from titrate.loop.watch import DriftWatch, Turn, WatchState
from titrate.stack.state import wanted

logger = logging.getLogger(__name__)
SCORED_EVERY = 10.0
"""Seconds at least between two scores of the window: reading it takes a fraction of one."""


class Metrics:
    """What Prometheus reads, in a registry of the loop's own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, ["workload", *labels], registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ["workload", *labels], registry=self.registry)

        self.score = gauge("titrate_drift_score", "Drift score 0..1 of the window; absent with too few events.")
        self.evidence = gauge("titrate_drift_evidence_nats", "Evidence of drift, by what it is about.", "part")
        self.limit = gauge("titrate_drift_limit_nats", "Evidence at which an alarm is raised.")
        self.alarm = gauge("titrate_drift_alarm", "1 while an alarm is open, by its cause.", "cause")
        self.alarms = counter("titrate_drift_alarms_total", "Alarms that were raised, by cause.", "cause")
        self.updated = gauge("titrate_drift_updated_timestamp_seconds", "When the events were last looked at.")
        self.failures = counter("titrate_retraining_failures_total", "Trainings that brought no serving release.")
        self.jobs = counter("titrate_retraining_jobs_total", "Trainings that ended, by how.", "result")
        self.duration = Histogram(
            "titrate_retraining_seconds",
            "From a trigger to its serving release.",
            ["workload"],
            buckets=[hours * 3600.0 for hours in (0.25, 1, 6, 24, 72, 168, 336)],
            registry=self.registry,
        )
        self.pending = gauge(
            "titrate_retraining_pending_since_seconds",
            "When the oldest trigger came whose release does not serve yet; absent without one.",
        )


class Workload:
    """What is kept in memory of one workload."""

    def __init__(self, home: Home, name: str) -> None:
        self._home, self._name = home, name
        self.retraining = Retraining(home, name)
        self.state: WatchState | None = None
        self.score: float | None = None
        self.scored_at = float("-inf")
        self.use(settings(home, name))

    def use(self, asked: LoopSettings) -> None:
        """Watch by these settings from the next turn on; a training goes on."""
        self.asked, self.watch = asked, DriftWatch(self._home, self._name, asked.watch)
        self.due = 0.0


class Loop:
    """All workloads of one home."""

    def __init__(self, home: Home, metrics: Metrics) -> None:
        self._home, self._metrics = home, metrics
        self._workloads: dict[str, Workload] = {}
        self._told: dict[str, str] = {}

    def turn(self, now: float) -> None:
        """Do what is due; `now` is monotonic. What cannot be read now is read at the next turn."""
        with self._telling("what serves"):
            serving = wanted(self._home).stable
            for workload, release in serving.items():
                with self._telling(workload):
                    self._turn(workload, release, now)

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """An error is told once, until it is another one."""
        try:
            yield
            self._told.pop(what, None)
        except (TitrateError, OSError) as error:
            if self._told.get(what) != str(error):
                logger.warning("trying again", extra={"facts": {"of": what, "error": str(error)}})
            self._told[what] = str(error)

    def _turn(self, name: str, release: str, now: float) -> None:
        one = self._of(name)
        wall = datetime.now(UTC)
        if now >= one.due:
            one.due = now + one.asked.watch.every_seconds
            with self._telling(f"drift of {name}"):
                turn = one.watch.update(release, wall)
                one.state = turn.state
                self._report_drift(name, turn, wall)
        if now >= one.scored_at + max(SCORED_EVERY, one.asked.watch.every_seconds):
            one.scored_at = now
            one.score = self._score(name)
        alarm = one.state.alarm if one.state and one.state.release == release else None
        self._report_retraining(name, one.retraining.turn(one.asked, release, one.score, alarm, wall))

    def _of(self, name: str) -> Workload:
        """With the settings of now."""
        if name not in self._workloads:
            self._metrics.failures.labels(name)  # there from the beginning: an increase from nothing is none
            self._workloads[name] = Workload(self._home, name)
        elif (asked := settings(self._home, name)) != self._workloads[name].asked:
            self._workloads[name].use(asked)
        return self._workloads[name]

    def _score(self, name: str) -> float | None:
        """Of the window; a gauge without enough events is taken away, not frozen (X07)."""
        with contextlib.suppress(KeyError):
            self._metrics.score.remove(name)
        try:
            score = status(self._home, name).score
        except TitrateError:
            return None
        if score is not None:
            self._metrics.score.labels(name).set(score)
        return score

    def _report_drift(self, name: str, turn: Turn, wall: datetime) -> None:
        metrics, state = self._metrics, turn.state
        for part, nats in state.points[-1].parts.items():
            metrics.evidence.labels(name, part).set(nats)
        metrics.limit.labels(name).set(state.limit)
        metrics.updated.labels(name).set(wall.timestamp())
        raised = turn.raised.causes if turn.raised else ()
        for cause in Cause:
            metrics.alarm.labels(name, cause.value).set(cause.value in state.causes)
            metrics.alarms.labels(name, cause.value).inc(cause.value in raised)

    def _report_retraining(self, name: str, look: Look) -> None:
        metrics = self._metrics
        if since := look.kept.state.pending_since:
            metrics.pending.labels(name).set(since.timestamp())
        else:
            with contextlib.suppress(KeyError):
                metrics.pending.remove(name)
        if job := look.ended:
            metrics.jobs.labels(name, job.status.replace(" ", "_")).inc()
            if job.status != "promoted":
                metrics.failures.labels(name).inc()
            elif job.ended_at:
                metrics.duration.labels(name).observe((job.ended_at - job.triggered_at).total_seconds())
