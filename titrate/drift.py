"""Have the inputs of the served release moved away from its reference? `titrate drift status` looks once.

The promise of a verdict is for one look at one window (docs/drift.md); evidence over time is kept by `titrate/loop/`.
"""

import time

from core.config import Config
from core.errors import UserError
from core.home import Home
from core.slo import Slo
from core.verdict import Outcome
from serving.drift import detector, ks
from serving.drift.detector import Finding
from serving.drift.sample import of_release
from titrate.loop.answers import AnsweredEvents
from titrate.stack.releases import fetched
from titrate.stack.state import wanted

METHODS = ("ks", "mix")
"""Whether numbers of the images moved, and whether the mix of answers did."""


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
    answered = AnsweredEvents(home)
    answered.require()
    window = answered.window(workload, reference, since=time.time_ns() // 1000 - int(span * 3.6e9)).sample
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
