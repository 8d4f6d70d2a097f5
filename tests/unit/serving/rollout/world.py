"""A small world behind the ports: two arms, a router, traffic with counters, a registry. It can crash at any call."""

from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

from core.errors import PermanentError, TemporaryError, TitrateError, UserError
from core.slo import Slo
from serving.rollout.metrics import ACCURACY, AGREEMENT, DRIFT, MIX
from serving.rollout.observations import CandidateReport, Reading, RouterReport, Weights
from serving.rollout.presets import preset
from serving.rollout.spec import RolloutSpec, Step

STABLE, CANDIDATE = "stable-release", "candidate-release"
CLASSES = tuple(f"pill_{i:02d}" for i in range(16))


class CrashError(BaseException):
    """The process dies here."""


class Inline(Executor):
    """Runs at once, so that a test knows when."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except TitrateError as error:
            future.set_exception(error)
        return future


def quick_spec(name: str = "canary", **changes: Any) -> RolloutSpec:
    """A preset at the size of a test: 20 s of bake."""
    spec = preset(
        name,
        workload="pills",
        stable=STABLE,
        candidate=CANDIDATE,
        slo=Slo.load("pills"),
        classes=changes.pop("classes", ()),
    )
    steps = changes.pop("steps", None) or tuple(
        Step(weight=s.weight, shadow=s.shadow, bake_seconds=20, min_requests=50, deadline_seconds=4000)
        for s in spec.steps
    )
    return spec.model_copy(update={"steps": steps, **changes})


class World:
    """Implements every port. What it holds survives a crash of the reconciler, as a proxy or a cluster would."""

    def __init__(self, seed: int = 0, rate: float = 200.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.rate = rate
        self.now, self.ticks = 1_700_000_000.0, 0
        self.arms = {"stable": STABLE, "candidate": ""}
        self.weights, self.mirrored = Weights(stable=100, candidate=0), 0
        self.alias = STABLE
        self.running: set[str] = {STABLE}
        self.ready, self.restarts = True, 0
        self.bad = {"errors": 0.002, "slow": 0.01, DRIFT: 0.05, AGREEMENT: 0.05}
        self.candidate_bad: dict[str, float] = {}
        self.wrong = dict.fromkeys(CLASSES, 0.06)
        self.candidate_wrong: dict[str, float] = {}
        self.labels = {"stable": 1.0, "candidate": 1.0, "baseline": 1.0}
        self.counts: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(2, int))
        self.mixes: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(CLASSES), int))
        self.eligible: Counter[str] = Counter()
        self.failing: dict[str, Exception] = {}
        self.unread: set[str] = set()
        """Metrics whose source does not answer."""
        self.calls: list[str] = []
        self.crash_at: int | None = None
        self.told: list[tuple[str, str]] = []
        self.highest = 0
        self.asked: set[str] = set()
        self.says_yes, self.cannot = True, ""

    # --- the reconciler's process

    def _call(self, name: str) -> None:
        """Every call may be where the process dies, before it has any effect."""
        self.calls.append(name)
        if self.crash_at is not None and len(self.calls) >= self.crash_at:
            self.crash_at = None
            raise CrashError(name)
        if name in self.failing:
            raise self.failing[name]

    # --- Router

    def check(self, *args: Any) -> Any:
        """Router.check(spec), and Effects.check(check, spec)."""
        if len(args) == 2:
            self._call("check")
            self.counts["candidate", "slow"] += np.array([20, 0])  # warm-up is slow, and no evidence
            return "20 answers"
        if self.cannot:
            raise UserError(f"this router cannot {self.cannot}")
        return None

    def store_stable(self) -> dict[str, Any]:
        self._call("store_stable")
        return {"stable": self.arms["stable"], "weights": self.weights.model_dump()}

    def apply(self, weights: Weights) -> None:
        self._call("apply")
        assert self.arms["stable"] == STABLE, "weights were set while the arms change their names"
        self.weights = weights
        self.highest = max(self.highest, weights.candidate)

    def shadow(self, percent: int) -> None:
        self._call("shadow")
        self.mirrored = percent

    def observed_weight(self) -> RouterReport:
        if "observed_weight" in self.failing:
            raise self.failing["observed_weight"]
        return RouterReport(weights=self.weights, shadow=self.mirrored)

    def promote(self, release: str) -> None:
        self._call("promote")
        self.arms = {"stable": release, "candidate": ""}
        self._call("promote, second half")
        self.weights, self.mirrored = Weights(stable=100, candidate=0), 0

    def restore(self, stored: dict[str, Any]) -> None:
        self._call("restore")
        self.arms = {"stable": stored["stable"], "candidate": CANDIDATE}
        self.weights, self.mirrored = Weights.model_validate(stored["weights"]), 0

    # --- Servers

    def start(self, release: str) -> None:
        self._call("start")
        self.arms["candidate"] = release
        self.running.add(release)

    def report(self, release: str) -> CandidateReport:
        return CandidateReport(ready=self.ready and release in self.running, restarts=self.restarts, reason="test")

    def stop(self, release: str) -> None:
        self._call("stop")
        assert self.weights.candidate == 0, "a server with traffic was stopped"
        self.running.discard(release)

    def retire(self, release: str) -> None:
        self._call("retire")
        self.running.discard(release)

    # --- Effects

    def confirm(self, hook: Any, spec: RolloutSpec) -> bool:
        self._call("confirm")
        self.asked.add(hook.name)
        return self.says_yes

    def promoted(self, spec: RolloutSpec) -> None:
        self._call("promoted")
        self.alias = spec.candidate

    def undo_promotion(self, spec: RolloutSpec) -> None:
        self._call("undo_promotion")
        self.alias = spec.stable

    def notify(self, event: str, text: str, spec: RolloutSpec) -> None:
        self._call("notify")
        self.told.append((event, text))

    # --- Observer

    def readings(self, spec: RolloutSpec) -> tuple[Reading, ...]:
        if "readings" in self.failing:
            raise self.failing["readings"]
        return tuple(
            Reading(
                source="world",
                arm=arm,
                stamp=self.ticks,
                counts={
                    metric: tuple(int(c) for c in (self.mixes[arm] if metric == MIX else self.counts[arm, metric]))
                    for metric in spec.sizes
                    if metric not in self.unread
                },
                eligible={ACCURACY: self.eligible[arm]},
            )
            for arm in ("stable", "candidate", "baseline")
        )

    # --- traffic

    def pass_time(self, seconds: float = 5.0) -> None:
        """Requests of so many seconds, answered and labelled at once."""
        self.now += seconds
        self.ticks += 1
        total = int(self.rng.poisson(self.rate * seconds))
        shares = [self.weights.stable, self.weights.candidate, self.weights.baseline]
        numbers = self.rng.multinomial(total, np.array(shares) / 100)
        numbers[1] += self.rng.binomial(numbers[0], self.mirrored / 100)
        for arm, number in zip(("stable", "candidate", "baseline"), numbers, strict=True):
            self._answer(arm, int(number))

    def _answer(self, arm: str, number: int) -> None:
        new = self.candidate_bad if self.arms.get(arm) == CANDIDATE else {}
        for metric, rate in self.bad.items():
            bad = self.rng.binomial(number, new.get(metric, rate))
            self.counts[arm, metric] += np.array([bad, number - bad])
        wrong_of = self.wrong | (self.candidate_wrong if self.arms.get(arm) == CANDIDATE else {})
        by_class = self.rng.multinomial(number, np.full(len(CLASSES), 1 / len(CLASSES)))
        self.mixes[arm] += by_class
        self.eligible[arm] += number
        for name, n in zip(CLASSES, by_class, strict=True):
            labelled = self.rng.binomial(n, self.labels[arm])
            wrong = self.rng.binomial(labelled, wrong_of[name])
            self.counts[arm, ACCURACY] += np.array([wrong, labelled - wrong])
            self.counts[arm, f"{ACCURACY}/{name}"] += np.array([wrong, labelled - wrong])


def down(what: str) -> TemporaryError:
    """An error that may pass."""
    return TemporaryError(f"{what} does not answer")


def broken(what: str) -> PermanentError:
    """An error that stays."""
    return PermanentError(f"{what} is broken")
