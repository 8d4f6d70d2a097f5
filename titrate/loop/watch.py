"""Watches what serves: every few seconds the new events of each stable release are one update of its monitor.

What is known is kept in `<home>/loop/<workload>/watch.json`, so that a restart in the middle of a window loses nothing;
alarms are appended to `drift.jsonl`. An alarm stays open until another release serves, or nothing was raised for as
long as a window of the ladder lasts. Meanwhile the monitor starts anew, and what it raises for the same causes is the
same alarm: only another cause is another one.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from core import audit
from core.config import Config
from core.evidence import one_sample
from core.evidence.one_sample import MonitorState
from core.files import write_atomic
from core.home import Home
from core.slo import Slo
from core.verdict import Outcome, Verdict
from serving.drift import cause
from serving.drift.monitor import WRONG, Part, Settings, Watched
from serving.drift.sample import Sample, of_release
from titrate.loop.answers import AnsweredEvents, Window
from titrate.loop.settings import folder
from titrate.stack.releases import fetched

logger = logging.getLogger(__name__)
DESCRIBED = 100
"""Newest events that an alarm is described by where those behind its change point show nothing."""
TOLD, SHIFTED = 3, 0.05
"""Columns, or classes by how their share changed, that one line about an alarm tells of."""
NAMED = 8
"""Columns and classes that an alarm names."""
KEPT = 400
"""Points of the evidence that are kept; then every second one is dropped."""


class Alarm(Config):
    """What was raised."""

    workload: str
    release: str
    raised_at: datetime
    began: datetime
    """When the change most likely began: the answer of the first event behind the change point."""
    causes: tuple[str, ...]
    reason: str
    """The numbers that decided."""
    events: int
    """From the change point to the alarm."""
    columns: dict[str, float]
    """Score 0..1 of those that moved most, the mix of answers left out."""
    classes: dict[str, float]
    """Change of the share of answers, -1..1."""

    @property
    def said(self) -> str:
        """In one line."""
        columns = [f"{name} {score:.2f}" for name, score in self.moved]
        classes = [f"{name} {change:+.0%}" for name, change in self.shifted]
        what = ", ".join((columns or classes)[:TOLD]) or "no single column or class"
        return f"{' and '.join(self.causes)} since {self.began:%F %H:%M:%S} ({self.events} events): {what}"

    @property
    def moved(self) -> list[tuple[str, float]]:
        """Columns that moved, most first; those that people can picture before those of the embedding."""
        found = [(name, score) for name, score in self.columns.items() if score > cause.MOVED]
        return sorted(found, key=lambda one: (one[0].startswith("embedding_"), -one[1]))

    @property
    def shifted(self) -> list[tuple[str, float]]:
        """Classes whose share changed, most first."""
        found = [(name, change) for name, change in self.classes.items() if abs(change) > SHIFTED]
        return sorted(found, key=lambda one: -abs(one[1]))


class Point(Config):
    """Evidence at one time, nats."""

    at: datetime
    parts: dict[str, float]
    whole: float


class WatchState(Config):
    """`watch.json`."""

    release: str
    settings: str
    """Digest of the settings that the evidence belongs to."""
    since: datetime
    seq: int
    """Of the newest event that was counted."""
    labels_upto: int
    """When the newest label came that was counted, microseconds since 1970."""
    began_seq: int
    """Of the newest event when the monitor last began."""
    updates: int = 0
    events: int = 0
    evidence: MonitorState
    limit: float
    """nats, at which an alarm is raised."""
    points: tuple[Point, ...] = ()
    alarm: Alarm | None = None
    """The open one, the newest if there were several."""
    causes: tuple[str, ...] = ()
    """Of all alarms that are open."""
    alarm_seen: datetime | None = None
    """When the open alarm was last raised."""
    alarms: int = 0
    """Raised for this release."""


class Turn(NamedTuple):
    """What one update found."""

    state: WatchState
    raised: Alarm | None


class DriftWatch:
    """One workload of a home."""

    def __init__(self, home: Home, workload: str, settings: Settings) -> None:
        self._home, self._workload, self._settings = home, workload, settings
        self._answers = AnsweredEvents(home)
        self._ladder = Slo.load(workload)
        self._file = folder(home, workload) / "watch.json"
        self._known: tuple[Sample, Watched] | None = None

    def update(self, release: str, now: datetime) -> Turn:
        """Count what came since the last update. Raises TitrateError: what could not be read is counted next time."""
        reference, watched = self._fitted(release)
        state = self._load(release, watched, now)
        window = self._answers.window(self._workload, reference, after=state.seq)
        labelled, upto = self._answers.labelled(self._workload, release, state.labels_upto)
        evidence = watched.observe(state.evidence, window.sample, labelled.wrong, labelled.right)
        counted = {"seq": window.last, "labels_upto": upto, "updates": state.updates + 1, "evidence": evidence}
        state = state.model_copy(update={**counted, "events": state.events + len(window.at)})
        verdict = watched.judge(evidence)
        if window.at or labelled.all or not state.points:
            state = state.model_copy(update={"points": _with(state.points, _point(watched, evidence, verdict, now))})
        raised = self._alarm(state, verdict, now) if verdict.outcome is Outcome.FAIL else None
        if raised:
            fresh = {"evidence": one_sample.begin(watched.monitor), "began_seq": state.seq, "alarm_seen": now}
            known = set(raised.causes) <= set(state.causes)
            state, raised = state.model_copy(update=fresh), None if known else raised
        elif state.alarm_seen and now - state.alarm_seen > timedelta(hours=self._ladder.drift.window_hours):
            state = state.model_copy(update={"alarm": None, "alarm_seen": None, "causes": ()})
        if raised:
            state = self._told(state, raised)
        write_atomic(self._file, state.model_dump_json())
        return Turn(state, raised)

    def _fitted(self, release: str) -> tuple[Sample, Watched]:
        if self._known is None or self._known[0].release != release:
            reference = of_release(fetched(self._home, release), release)
            tolerated = 1 - self._ladder.accuracy.retrain
            self._known = reference, Watched.fit(reference, tolerated, self._settings)
        return self._known

    def _load(self, release: str, watched: Watched, now: datetime) -> WatchState:
        state = load(self._home, self._workload)
        if state and (state.release, state.settings) == (release, self._settings.content_digest()):
            return state
        newest, received = self._answers.newest()
        return WatchState(
            release=release,
            settings=self._settings.content_digest(),
            since=now,
            seq=newest,
            began_seq=newest,
            labels_upto=received,
            evidence=one_sample.begin(watched.monitor),
            limit=watched.judge(one_sample.begin(watched.monitor)).limit or 0.0,
        )

    def _alarm(self, state: WatchState, verdict: Verdict, now: datetime) -> Alarm:
        reference, watched = self._fitted(state.release)
        window = self._answers.window(self._workload, reference, after=state.began_seq)
        first = _began(watched, state.evidence, window)
        wrong = watched.evidence(state.evidence)[Part.QUALITY] >= state.limit
        found = cause.describe(reference, window.sample.rows_from(first).complete(), wrong)
        if found.causes == (cause.Cause.UNNAMED,):
            recent = window.sample.rows_from(max(0, len(window.at) - DESCRIBED))
            found = cause.describe(reference, recent.complete(), wrong)
        return Alarm(
            workload=self._workload,
            release=state.release,
            raised_at=now,
            began=datetime.fromtimestamp(window.at[first] / 1e6, UTC) if window.at else now,
            causes=tuple(one.value for one in found.causes),
            reason=verdict.reason,
            events=len(window.at) - first,
            columns=_named(found.columns),
            classes=dict(list(found.classes.items())[:NAMED]),
        )

    def _told(self, state: WatchState, alarm: Alarm) -> WatchState:
        audit.append(self._file.with_name("drift.jsonl"), "drift", **alarm.model_dump(mode="json"))
        logger.warning("drift", extra={"facts": {"workload": self._workload, "said": alarm.said}})
        causes = tuple(dict.fromkeys((*state.causes, *alarm.causes)))
        return state.model_copy(update={"alarm": alarm, "alarms": state.alarms + 1, "causes": causes})


def load(home: Home, workload: str) -> WatchState | None:
    """What the watch last wrote."""
    file = folder(home, workload) / "watch.json"
    return WatchState.from_file(file) if file.exists() else None


def alarms(home: Home, workload: str) -> list[Alarm]:
    """All that were raised, oldest first; raises PermanentError where the log was changed."""
    entries = audit.read(folder(home, workload) / "drift.jsonl")
    return [
        Alarm.model_validate({key: value for key, value in entry.items() if key not in audit.OWN}) for entry in entries
    ]


def _named(columns: dict[str, float]) -> dict[str, float]:
    """The image statistics that moved most, and the embedding's columns."""
    embedded = [name for name in columns if name.startswith("embedding_")]
    pictured = [name for name in columns if not name.startswith("embedding_")]
    return {name: columns[name] for name in (*pictured[:NAMED], *embedded[:NAMED])}


def _began(watched: Watched, evidence: MonitorState, window: Window) -> int:
    """The first event of the change, by the limit that is most against it; labels do not tell."""
    strongest = watched.strongest(evidence)
    if strongest.name == WRONG or not window.at:
        return 0
    usable, beyond = watched.hits(window.sample.values, window.sample.predictions)
    place = watched.names().index(strongest.name)
    rows = usable[:, place].nonzero()[0]
    return int(rows[cause.change_point(beyond[rows, place], strongest.rate)]) if len(rows) else 0


def _point(watched: Watched, evidence: MonitorState, verdict: Verdict, now: datetime) -> Point:
    parts = {part.value: max(0.0, value) for part, value in watched.evidence(evidence).items()}
    return Point(at=now, parts=parts, whole=verdict.value or 0.0)


def _with(points: tuple[Point, ...], new: Point) -> tuple[Point, ...]:
    """The story so far in at most KEPT points, older ones thinner."""
    return (*(points if len(points) < KEPT else points[::2]), new)
