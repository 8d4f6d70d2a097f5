"""The loop around the engine: look, decide, write down, act. A crash anywhere is a gap between two looks, no more.

The decision is on disk before anything is done; what was not done, or may not have been, is wanted again.
"""

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from threading import Event
from typing import TypeVar

from core.errors import TemporaryError, TitrateError
from serving.rollout import actions as wanted
from serving.rollout.actions import Action
from serving.rollout.engine import Decision, decide
from serving.rollout.journal import Journal
from serving.rollout.observations import Observation, Result
from serving.rollout.ports import Effects, Observer, Router, Servers
from serving.rollout.spec import RolloutSpec
from serving.rollout.state import Phase

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


def start(root: Path, spec: RolloutSpec, router: Router) -> Journal:
    """A new rollout, ready to be reconciled. Raises UserError when the router cannot do it or another one goes on."""
    router.check(spec)
    return Journal.create(root, spec)


class Reconciler:
    """One rollout's loop. Slow questions to others (checks, webhooks, notices) run in `executor`, so that a rollback
    never waits behind them; everything that touches traffic runs in the loop, in order."""

    def __init__(
        self,
        journal: Journal,
        ports: tuple[Router, Servers, Observer, Effects],
        clock: Callable[[], float],
        executor: Executor,
    ) -> None:
        self.journal = journal
        self._router, self._servers, self._observer, self._effects = ports
        self._clock = clock
        self._executor = executor
        self._asked: dict[str, Future[Result]] = {}
        self._results: list[Result] = []
        self.spec, self.state = journal.load()
        self.last: tuple[Observation, Decision] | None = None
        """What the last look saw and decided, for whoever shows it."""

    def offer(self, spec: RolloutSpec) -> Decision:
        """What becomes of a spec that is handed in while the rollout runs: refused if it differs, with the reason."""
        return decide(spec, self.state, [])

    def run(self, stop: Event) -> None:
        """Look until the rollout has ended and everybody was told, or until `stop` is set."""
        with self.journal.held():
            while not (self.done or stop.is_set()):
                self.look()
                stop.wait(self.spec.look_seconds)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state.ended and not self.state.notices

    def look(self) -> None:
        """One turn. Without a place to write (a full disk, a locked store) nothing is decided; only a rollback that
        would have been is set off, because going back to stable is always safe."""
        seen = self._observe()
        decision = decide(self.spec, self.state, [seen])
        try:
            self.journal.record(self.spec, seen, decision)
        except (OSError, TemporaryError) as error:
            logger.error("the decision log cannot be written", extra={"facts": {"error": str(error)}})
            if decision.state.phase is Phase.RESTORING:
                self._act([a for a in decision.actions if isinstance(a, wanted.SetWeights | wanted.SetShadow)])
            return
        self._results = []
        self.state, self.last = decision.state, (seen, decision)
        self._act(decision.actions)

    def _observe(self) -> Observation:
        failures: list[str] = []

        def ask(what: str, question: Callable[[], Answer]) -> Answer | None:
            try:
                return question()
            except TitrateError as error:
                failures.append(f"{what}: {error}")
                return None

        router = ask("router", self._router.observed_weight)
        candidate = ask("candidate", lambda: self._servers.report(self.spec.candidate))
        readings = ask("counts", lambda: self._observer.readings(self.spec))
        self._collect()
        return Observation(
            sequence=self.state.seen + 1,
            at=self._clock(),
            router=router,
            candidate=candidate,
            readings=readings or (),
            results=tuple(self._results),
            commands=self.journal.waiting(),
            failures=tuple(failures),
        )

    def _collect(self) -> None:
        """Take the answers that came in."""
        for name, answer in list(self._asked.items()):
            if answer.done():
                del self._asked[name]
                self._results += _outcome(name, answer.result)

    def _act(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if not isinstance(action, wanted.RunCheck | wanted.RunWebhook | wanted.Notify):
                self._results += _outcome(action.id, partial(self._do, action))
            elif action.id not in self._asked:
                self._asked[action.id] = self._executor.submit(self._ask, action)

    def _ask(self, action: wanted.RunCheck | wanted.RunWebhook | wanted.Notify) -> Result:
        match action:
            case wanted.RunCheck():
                return Result(action=action.id, ok=True, detail=self._effects.check(action.check, self.spec))
            case wanted.RunWebhook():
                return Result(action=action.id, ok=self._effects.confirm(action.hook, self.spec))
            case wanted.Notify():
                self._effects.notify(action.event, action.text, self.spec)
                return Result(action=action.id, ok=True)

    def _do(self, action: Action) -> Result | None:
        """Change something; None where the effect is observed instead of reported."""
        payload = None
        match action:
            case wanted.SetWeights():
                self._router.apply(action.weights)
                return None
            case wanted.SetShadow():
                self._router.shadow(action.percent)
                return None
            case wanted.StoreStable():
                payload = self._router.store_stable()
            case wanted.StartCandidate():
                self._servers.start(action.release)
            case wanted.Promote():
                self._router.promote(action.release)
                self._effects.promoted(self.spec)
            case wanted.UndoPromotion():
                self._effects.undo_promotion(self.spec)
            case wanted.RestoreStable():
                self._router.restore(self.state.stable_spec or {})
            case wanted.StopCandidate():
                self._servers.stop(action.release)
            case wanted.RetireStable():
                self._servers.retire(action.release)
        return Result(action=action.id, ok=True, payload=payload)


def _outcome(name: str, work: Callable[[], Result | None]) -> list[Result]:
    """The result of some work; none when trying again may help, or when the effect is observed."""
    try:
        result = work()
    except TemporaryError as error:
        logger.warning("will be tried again", extra={"facts": {"action": name, "error": str(error)}})
        return []
    except TitrateError as error:
        return [Result(action=name, ok=False, detail=str(error))]
    return [result] if result else []
