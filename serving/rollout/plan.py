"""What a rollout would take at today's traffic: time, exposure, the smallest harm each step can see, what cannot be.

An expectation by core/evidence/planning, not a promise: the candidate is assumed to be exactly as good as stable.
"""

import math
from typing import Annotated, NamedTuple

from pydantic import Field

from core.config import Config
from core.evidence import planning
from core.evidence.judge import Metric as Question
from serving.rollout.phases import needs_proof
from serving.rollout.spec import FULL, RolloutSpec, Step
from serving.rollout.weights import shares


class Traffic(Config):
    """What goes through stable now."""

    requests_per_second: float = Field(gt=0)
    label_share: float = Field(default=0, ge=0, le=1)
    """Share of answers whose label comes in, in time for the rollout."""
    bad: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default={})
    """Stable's bad share by metric; a metric that is not here is planned with `otherwise`."""
    otherwise: float = Field(default=0.01, gt=0, lt=1)


class StepPlan(Config):
    """What one step would take."""

    weight: int
    shadow: int
    seconds: float
    """Expected until the step is done."""
    requests: float
    """Answers of the candidate in that time."""
    exposed: float
    """Of these, real ones: mirrored answers are thrown away."""
    smallest_harm: dict[str, float | None]
    """By metric: excess over stable (margin included) that this step alone would be expected to find; None: none."""
    waits_for: str
    """What takes the longest."""
    problem: str | None = None
    """Why the step cannot be done before its deadline, with the numbers."""


class Plan(Config):
    """The whole rollout, expected."""

    steps: tuple[StepPlan, ...]
    seconds: float
    exposed: float

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it would not end in a promotion; empty when it can."""
        return tuple(step.problem for step in self.steps if step.problem)


class _Flow(NamedTuple):
    """Requests per second of the compared arms in a step."""

    stable: float
    candidate: float

    @property
    def both(self) -> float:
        return self.stable + self.candidate

    @property
    def share(self) -> float:
        return self.candidate / self.both


def plan(spec: RolloutSpec, traffic: Traffic) -> Plan:
    """Steps in order; evidence gathered in one step counts in the next."""
    gained = dict.fromkeys((question.name for question in spec.questions.judge.metrics), 0.0)
    steps = []
    for index in range(len(spec.steps)):
        made = _step(spec, traffic, index, gained)
        flow = _flow(spec, spec.steps[index], traffic)
        for question in spec.questions.judge.metrics:
            gained[question.name] += made.seconds * _per_second(spec, traffic, question, flow)
        steps.append(made)
    return Plan(steps=tuple(steps), seconds=sum(s.seconds for s in steps), exposed=sum(s.exposed for s in steps))


def _flow(spec: RolloutSpec, step: Step, traffic: Traffic) -> _Flow:
    split = shares(spec, step.weight)
    reference = split.baseline or split.stable
    candidate = step.weight or step.shadow
    return _Flow(traffic.requests_per_second * reference / FULL, traffic.requests_per_second * candidate / FULL)


def _seen(spec: RolloutSpec, traffic: Traffic, question: Question) -> float:
    """Share of the answers that the metric counts."""
    return traffic.label_share if question.name.partition("/")[0] in spec.labelled else 1.0


def _per_second(spec: RolloutSpec, traffic: Traffic, question: Question, flow: _Flow) -> float:
    """Nats per second towards promotion, the candidate being equal to stable."""
    bad = traffic.bad.get(question.name, traffic.otherwise)
    return planning.growth(bad, bad, question.margin, flow.share) * flow.both * _seen(spec, traffic, question)


def _step(spec: RolloutSpec, traffic: Traffic, index: int, gained: dict[str, float]) -> StepPlan:
    step = spec.steps[index]
    flow = _flow(spec, step, traffic)
    needs = {"bake": step.bake_seconds, f"{step.min_requests} requests": step.min_requests / flow.candidate}
    if step.min_labels:
        needs[f"{step.min_labels} labels"] = _over(step.min_labels, flow.candidate * traffic.label_share)
    if needs_proof(spec, index):
        needs |= _proofs(spec, traffic, flow, gained)
    slowest = max(needs, key=lambda name: needs[name])
    seconds = min(needs[slowest], step.deadline_seconds)
    answers = seconds * flow.candidate
    return StepPlan(
        weight=step.weight,
        shadow=step.shadow,
        seconds=seconds,
        requests=answers,
        exposed=answers if step.weight else 0.0,
        smallest_harm=_harms(spec, traffic, flow, seconds),
        waits_for=slowest,
        problem=_problem(index, step, slowest, needs[slowest], flow),
    )


def _proofs(spec: RolloutSpec, traffic: Traffic, flow: _Flow, gained: dict[str, float]) -> dict[str, float]:
    """Seconds until each metric that promotion waits for is shown."""
    needed = {}
    for question in spec.questions.judge.metrics:
        if not question.guard:
            missing = planning.FACTOR * math.log(1 / spec.alpha_promote) - gained[question.name]
            needed[f"proof of {question.name}"] = _over(missing, _per_second(spec, traffic, question, flow))
    return needed


def _over(amount: float, rate: float) -> float:
    return max(amount, 0.0) / rate if rate > 0 else float("inf")


def _harms(spec: RolloutSpec, traffic: Traffic, flow: _Flow, seconds: float) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    judge = spec.questions.judge
    for question in judge.metrics:
        if question.categories or "/" in question.name:
            continue
        requests = flow.both * seconds * _seen(spec, traffic, question)
        bad, alpha = traffic.bad.get(question.name, traffic.otherwise), judge.alpha_of(question)
        harm = planning.smallest_harm(bad, question.margin, flow.share, requests, alpha)
        found[question.name] = question.margin + harm if harm < float("inf") else None
    return found


def _problem(index: int, step: Step, slowest: str, needed: float, flow: _Flow) -> str | None:
    if needed <= step.deadline_seconds:
        return None
    length = "never" if needed == float("inf") else f"after about {needed:,.0f} s"
    return (
        f"step {index + 1}: {slowest} comes {length} at {flow.candidate:.3g} requests/s of the candidate, and the "
        f"deadline is {step.deadline_seconds:,.0f} s; give it more time, more weight, or ask for less"
    )
