"""The watch over promoted releases (R05): a stable release that breaks the ladder gives way to the former one.

There is no second arm any more, so each limit is fixed: at most 1 - alert of the labelled answers wrong, at most 5 % of
all answers slower than p99_ms. An e-detector of both (core/evidence/one_sample.py) forgets good times, so late harm is
found as fast, and it raises a false alarm once in RUN_LENGTH updates on average: in ten years.
"""

import contextlib
import logging
import time
from pathlib import Path

from pydantic import Field

from core.config import Config
from core.errors import TitrateError
from core.evidence import one_sample
from core.evidence.one_sample import Limit, Monitor, MonitorState
from core.files import write_atomic
from core.home import Home
from core.slo import Slo
from core.verdict import Outcome, Verdict
from serving.rollout.metrics import ACCURACY, SLOW
from titrate.promote import roll_back
from titrate.rollouts.edge_counts import EdgeCounts
from titrate.rollouts.event_counts import EventCounts
from titrate.stack.state import wanted

logger = logging.getLogger(__name__)
SECONDS = 10.0
"""Between two updates."""
RUN_LENGTH = 10 * 365 * 24 * 3600 / SECONDS
SLOW_SHARE = 0.05
"""Share of answers that may be slower than a limit of the 95th percentile."""


class Watched(Config):
    """What is known of one stable release; `rollouts/<workload>/promoted.json`."""

    release: str
    since: int
    """Microseconds since 1970; events before are not counted."""
    incarnation: str = ""
    counted: dict[str, tuple[int, int]] = Field(default={})
    """(bad, good) at the last update."""
    evidence: MonitorState


def monitor(slo: Slo) -> Monitor:
    """The two limits of R05, from the ladder."""
    limits = (Limit(name=SLOW, rate=SLOW_SHARE), Limit(name=ACCURACY, rate=round(1 - slo.accuracy.alert, 6)))
    return Monitor(limits=limits, alpha=1 / RUN_LENGTH)


class Watch:
    """All stable releases of a home that have a former one to give way to."""

    def __init__(self, home: Home, seconds: float = SECONDS) -> None:
        self._home, self._seconds = home, seconds
        self._edge, self._events = EdgeCounts(home), EventCounts(home)
        self._due = 0.0

    def turn(self, now: float, busy: set[str]) -> None:
        """One update of each workload that has no rollout (`busy`), when it is due; `now` is monotonic."""
        if now < self._due:
            return
        self._due = now + self._seconds
        serving = wanted(self._home)
        for workload in serving.kept.keys() & serving.stable.keys() - busy:
            with contextlib.suppress(TitrateError):  # what cannot be asked now is counted at the next update
                self._update(workload, serving.stable[workload])

    def _update(self, workload: str, release: str) -> None:
        slo = Slo.load(workload)
        file = self._home.root / "rollouts" / workload / "promoted.json"
        known = _load(file, release, monitor(slo))
        incarnation = self._edge.incarnation()
        counted = {
            SLOW: self._edge.of(workload, release, "stable", slo.latency.p99_ms)[SLOW],
            ACCURACY: self._events.answered(workload, release, known.since)[0],
        }
        new = {name: _gained(known, name, pair, incarnation) for name, pair in counted.items()}
        counts = {name: (bad + good, bad) for name, (bad, good) in new.items()}
        evidence = one_sample.observe(monitor(slo), known.evidence, counts)
        update = {"incarnation": incarnation, "counted": counted, "evidence": evidence}
        write_atomic(file, known.model_copy(update=update).model_dump_json())
        verdict = one_sample.judge(monitor(slo), evidence)
        if verdict.outcome is Outcome.FAIL:
            self._give_way(workload, verdict)

    def _give_way(self, workload: str, verdict: Verdict) -> None:
        new, old = roll_back(self._home, workload, f"{verdict.question}: {verdict.reason}", keep=False)
        facts = {"workload": workload, "stable": new, "rolled_back": old, "reason": verdict.reason}
        logger.error("a promoted release broke its limits and was rolled back", extra={"facts": facts})


def _load(file: Path, release: str, asked: Monitor) -> Watched:
    known = Watched.from_file(file) if file.exists() else None
    if known and known.release == release:
        return known
    return Watched(release=release, since=time.time_ns() // 1000, evidence=one_sample.begin(asked))


def _gained(known: Watched, name: str, now: tuple[int, int], incarnation: str) -> tuple[int, int]:
    """New (bad, good); the first look only notes where the counters stand, and Envoy's start from zero again."""
    if name not in known.counted:
        return (0, 0)
    old = known.counted[name]
    if (name == SLOW and incarnation != known.incarnation) or now[0] < old[0] or now[1] < old[1]:
        return now
    return (now[0] - old[0], now[1] - old[1])
