"""The rollouts of one home, reconciled: one process looks after all workloads, and after what was promoted (R05).

The stack supervises it: killed, it is started again, reads the decision logs and goes on where it was. `__main__.py` is
its process. A rollout that cannot be read is left alone and told; the others go on.
"""

import contextlib
import importlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import TitrateError
from core.home import Home
from serving.rollout.journal import Journal
from serving.rollout.observations import Reading
from serving.rollout.reconcile import Reconciler
from serving.rollout.spec import RolloutSpec
from titrate.promote import alias_promoted, alias_restored
from titrate.rollouts.drift_counts import DriftCounts
from titrate.rollouts.edge_counts import EdgeCounts
from titrate.rollouts.effects import StackEffects
from titrate.rollouts.event_counts import EventCounts
from titrate.rollouts.promoted import Watch
from titrate.rollouts.router import EnvoyRouter
from titrate.rollouts.servers import StackServers

logger = logging.getLogger(__name__)
THREADS = 4
"""For checks, webhooks and notices."""


def root(home: Home) -> Path:
    """Where the journals are."""
    return home.root / "rollouts"


class Counts:
    """The laptop's observer: Envoy, the events and their inputs.

    A part that cannot be asked is missing, and made up for later.
    """

    def __init__(self, home: Home, since: int) -> None:
        self._edge, self._events, self._since = EdgeCounts(home), EventCounts(home), since
        self._drift = DriftCounts(home, self._events.engine)
        self.stamp = 0
        """Rises by look over the whole life of the rollout; the wall clock may jump."""

    def readings(self, spec: RolloutSpec) -> tuple[Reading, ...]:
        """Of both arms; raises TitrateError when nothing could be asked."""
        found: list[Reading] = []
        failed: list[TitrateError] = []
        asks: tuple[Callable[[], list[Reading]], ...] = (
            lambda: self._edge.readings(spec, self.stamp),
            lambda: self._events.readings(spec, self.stamp, self._since),
            lambda: self._drift.readings(spec, self.stamp),
        )
        for ask in asks:
            try:
                found += ask()
            except TitrateError as error:
                logger.warning("could not be counted", extra={"facts": {"error": str(error)}})
                failed.append(error)
        if failed and not found:
            raise failed[0]
        return tuple(found)


@dataclass
class Running:
    """One rollout that goes on."""

    reconciler: Reconciler
    counts: Counts
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    due: float = 0.0


class Loop:
    """Everything that is to be looked after in one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._running: dict[str, Running] = {}
        self._ended: dict[str, str] = {}
        """Workload -> its newest rollout, where nothing is left to do but a command."""
        self._told: set[str] = set()
        self._executor = ThreadPoolExecutor(THREADS)
        self._watch = Watch(home)

    def turn(self, now: float) -> None:
        """Look at what is due; `now` is monotonic."""
        for workload in self._workloads():
            if workload not in self._running:
                self._open(workload)
        for workload, one in list(self._running.items()):
            if now >= one.due:
                self._look(one, now)
            if one.reconciler.done:
                one.held.close()
                del self._running[workload]
                self._ended[workload] = one.reconciler.journal.id
        self._watch.turn(now, set(self._running))

    def _workloads(self) -> list[str]:
        return sorted(path.name for path in root(self._home).glob("*") if path.is_dir())

    def _open(self, workload: str) -> None:
        """Take up the newest rollout of a workload, if it goes on or somebody wants something of it."""
        newest = Journal.all(root(self._home), workload)[-1:]
        if not newest or (self._ended.get(workload) == newest[0].id and not newest[0].waiting()):
            return
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(newest[0].held())
                one = self._reconciled(newest[0])
            except TitrateError as error:
                self._tell(newest[0].id, str(error))
                return
            one.held = held.pop_all()
            self._running[workload] = one

    def _tell(self, rollout: str, why: str) -> None:
        """Once: it is tried again at every turn."""
        if rollout not in self._told:
            logger.error("this rollout is left alone", extra={"facts": {"rollout": rollout, "error": why}})
            self._told.add(rollout)

    def _reconciled(self, journal: Journal) -> Running:
        spec, _ = journal.load()
        counts = Counts(self._home, since=int(journal.began.timestamp() * 1e6))
        ports = (
            EnvoyRouter(self._home, spec.workload, spec.routing),
            StackServers(self._home, spec.workload),
            counts,
            StackEffects(self._home, alias_promoted, alias_restored),
        )
        warm_up_registry()
        return Running(Reconciler(journal, ports, time.time, self._executor), counts)

    def _look(self, one: Running, now: float) -> None:
        one.counts.stamp = one.reconciler.state.seen + 1
        one.reconciler.look()
        one.due = now + one.reconciler.spec.look_seconds


def warm_up_registry() -> None:
    """Import MLflow in the background: it takes seconds, and a promotion must not wait for it."""
    threading.Thread(target=importlib.import_module, args=("mlflow",), daemon=True).start()
