"""From a command line to a rollout's spec, and what the traffic of now would make of it."""

import time
from pathlib import Path

from pydantic import ValidationError

from components.register.registry import CANDIDATE, Registered, Registry
from core.config import Config, explain
from core.errors import UserError
from core.home import Home
from core.release import ModelSpec
from core.slo import Slo
from serving.rollout.metrics import ERRORS, SLOW
from serving.rollout.plan import Plan, Traffic, plan
from serving.rollout.presets import preset
from serving.rollout.spec import FULL, RolloutSpec, Step
from titrate.rollouts.edge_counts import EdgeCounts
from titrate.rollouts.event_counts import EventCounts
from titrate.stack.releases import verified
from titrate.stack.state import serving

MEASURED = 5.0
"""Seconds for which today's traffic is counted."""
LABELS_SINCE = 24 * 3600
"""Seconds of events from which the share of labelled answers is taken."""


class Asked(Config):
    """What a command line says of a rollout; what it leaves out is the preset's."""

    workload: str
    candidate: str | None = None
    preset: str = "canary"
    file: str | None = None
    """A complete spec as JSON instead."""
    weights: tuple[int, ...] = ()
    bake_seconds: float | None = None
    min_requests: int | None = None
    labels: bool = True


def made(home: Home, asked: Asked) -> RolloutSpec:
    """The spec, with a candidate that is registered and verified. Raises UserError, PermanentError."""
    if asked.file:
        return RolloutSpec.from_file(Path(asked.file))
    stable = serving(home).get(asked.workload)
    if stable is None:
        raise UserError(
            f"{asked.workload!r} has no stable release to be compared with; the first one is promoted by `titrate run`"
        )
    candidate = _candidate(home, asked)
    if candidate.digest == stable:
        raise UserError(f"release {candidate.short} is stable of {asked.workload!r} already; nothing to roll out")
    classes = _classes(verified(home, candidate.digest), verified(home, stable), asked.workload)
    return _spec(asked, stable, candidate.digest, classes)


def rehearse(asked: Asked) -> None:
    """Raise UserError if what is asked could never be a rollout, whoever the candidate is."""
    if not asked.file:
        _spec(asked, "0" * 64, "1" * 64, ())


def _spec(asked: Asked, stable: str, candidate: str, classes: tuple[str, ...]) -> RolloutSpec:
    spec = preset(
        asked.preset,
        workload=asked.workload,
        stable=stable,
        candidate=candidate,
        slo=Slo.load(asked.workload),
        classes=classes,
        labels=asked.labels,
    )
    try:
        return spec.model_copy(update={"steps": _steps(spec.steps, asked)})
    except ValidationError as error:
        raise UserError(f"the rollout: {explain(error, RolloutSpec.model_fields)}") from error


def expected(home: Home, spec: RolloutSpec, rate: float | None) -> Plan:
    """What the rollout would take at `rate` requests per second, or at the traffic of the next seconds."""
    return plan(spec, traffic(home, spec, rate))


def traffic(home: Home, spec: RolloutSpec, rate: float | None) -> Traffic:
    """Today's traffic through stable. Raises UserError when nobody asks anything, TemporaryError without a stack."""
    edge = EdgeCounts(home)
    before = edge.of(spec.workload, spec.stable, "stable", spec.slow_ms)
    if rate is None:
        time.sleep(MEASURED)
        after = edge.of(spec.workload, spec.stable, "stable", spec.slow_ms)
        rate = (sum(after[ERRORS]) - sum(before[ERRORS])) / MEASURED
    if rate <= 0:
        raise UserError(f"nobody asked {spec.workload!r} anything for {MEASURED:g} s; say what to expect with --rate")
    since = int((time.time() - LABELS_SINCE) * 1e6)
    labelled, answers = EventCounts(home).answered(spec.workload, spec.stable, since)
    bad = {name: pair[0] / sum(pair) for name, pair in before.items() if sum(pair) and name in (ERRORS, SLOW)}
    if sum(labelled):
        bad["accuracy"] = labelled[0] / sum(labelled)
    return Traffic(requests_per_second=rate, label_share=sum(labelled) / answers if answers else 0.0, bad=bad)


def _candidate(home: Home, asked: Asked) -> Registered:
    registry = Registry(home.registry)
    if asked.candidate:
        found = registry.find(asked.candidate)
        if found.workload != asked.workload:
            raise UserError(f"release {found.short} is one of {found.workload!r}, not of {asked.workload!r}")
        return found
    waiting = registry.get(asked.workload, CANDIDATE)
    if waiting is None:
        raise UserError(f"no release of {asked.workload!r} is a candidate; name one with --candidate")
    return waiting


def _classes(candidate: Path, stable: Path, workload: str) -> tuple[str, ...]:
    """The classes that both releases know: what is compared class by class."""
    known = [ModelSpec.from_file(folder / workload / "1" / "model.json").labels for folder in (candidate, stable)]
    return tuple(label for label in known[0] if label in known[1])


def _steps(steps: tuple[Step, ...], asked: Asked) -> tuple[Step, ...]:
    changes = {"bake_seconds": asked.bake_seconds, "min_requests": asked.min_requests}
    changed = {key: value for key, value in changes.items() if value is not None}
    weighted = steps
    if asked.weights:
        like = next((step for step in steps if step.weight), Step(weight=FULL))
        mirrored = tuple(step for step in steps if step.shadow) if asked.weights[0] < FULL else ()
        weighted = (*mirrored, *(like.model_copy(update={"weight": weight}) for weight in asked.weights))
    return tuple(Step.model_validate(step.model_dump() | changed) for step in weighted)
