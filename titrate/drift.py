"""Have the inputs of the served release moved away from its reference? `titrate drift status` looks once.

The promise of a verdict is for one look at one window (docs/drift.md); nothing here is kept from look to look.
"""

import time

import sqlalchemy as sa

from core.config import Config
from core.errors import TemporaryError, UserError
from core.events import OK
from core.home import Home
from core.slo import Slo
from core.verdict import Outcome
from serving.drift import detector, ks
from serving.drift.detector import Finding
from serving.drift.sample import Sample, of_release, of_stored
from serving.feedback.schema import events
from titrate.stack.releases import fetched
from titrate.stack.state import wanted

METHODS = ("ks", "mix")
"""Whether numbers of the images moved, and whether the mix of answers did."""
AT_MOST = 5_000
"""Newest events of a window that are compared; more change a p-value and no decision."""


class DriftReport(Config):
    """What one look found."""

    workload: str
    release: str
    hours: float
    events: int
    findings: tuple[Finding, ...]
    score: float | None
    """0..1 (M07); None with too few events."""
    retrain: float
    """The score above which retraining is considered."""

    @property
    def said(self) -> str:
        """In one line."""
        if self.score is None:
            return f"inconclusive: {self.findings[0].verdict.reason}"
        failed = [one.method for one in self.findings if one.verdict.outcome is Outcome.FAIL]
        what = {"ks": "the images look different", "mix": "the mix of answers is another one"}
        found = " and ".join(what[name] for name in failed) or "nothing moved"
        above = "above" if self.score > self.retrain else "below"
        return f"{found}; drift score {self.score:.2f}, {above} {self.retrain:g} where retraining is considered"


def status(home: Home, workload: str, hours: float | None = None) -> DriftReport:
    """Compare the events of the last `hours` (the ladder's window by default) with the served release's reference.

    Raises UserError where nothing serves, there are no events, or the release has no reference; TemporaryError where
    the events cannot be read.
    """
    ladder = Slo.load(workload).drift
    if (release := wanted(home).stable.get(workload)) is None:
        raise UserError(f"no release of {workload!r} serves; `titrate releases` shows what there is")
    span = hours or ladder.window_hours
    reference = of_release(fetched(home, release), release)
    window = _window(home, workload, reference, time.time_ns() // 1000 - int(span * 3.6e9))
    settings = (detector.Settings(method=name, min_events=ladder.min_events) for name in METHODS)
    findings = tuple(detector.fit(one, reference).score(window) for one in settings)
    moved = findings[0]
    score = None
    if moved.statistic is not None:
        score = ks.score(moved.statistic, len(moved.attribution), len(reference.values), moved.events)
    return DriftReport(
        workload=workload,
        release=release,
        hours=span,
        events=len(window.values),
        findings=findings,
        score=score,
        retrain=ladder.retrain,
    )


def _window(home: Home, workload: str, like: Sample, since: int) -> Sample:
    """The answers that clients got since then (microseconds since 1970), newest first."""
    file = home.root / "events.db"
    if not file.exists():
        raise UserError("there are no events; `titrate stack up` keeps those of every prediction")
    url = sa.URL.create("sqlite", database=f"file:{file}", query={"mode": "ro", "uri": "true"})
    of = events.c
    query = (
        sa.select(of.embedding, of.image, of.label)
        .where(of.workload == workload, of.release == like.release, of.outcome == OK, of.arm != "candidate")
        .where(of.at >= since)
        .order_by(of.seq.desc())
        .limit(AT_MOST)
    )
    try:
        with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
            rows = [(row.embedding, row.image, row.label) for row in connection.execute(query)]
    except sa.exc.DBAPIError as error:
        raise TemporaryError(f"the events cannot be read: {error.orig}") from error
    return of_stored(rows, like)
