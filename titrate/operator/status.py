"""What a ModelRollout says about itself: for `kubectl get` and `kubectl wait`, and for the operator that comes next."""

from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pydantic import Field, JsonValue

from core.config import Config
from core.evidence.judge import Finding
from serving.rollout.observations import Observation
from serving.rollout.spec import RolloutSpec
from serving.rollout.state import Phase, RolloutState
from titrate.operator.resource import camel

Json = dict[str, Any]


class Condition(Config):
    """One fact with the time since when it holds, as Kubernetes writes them."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: str = ""


class Evidence(Config):
    """How far one metric is towards each of its limits."""

    metric: str
    harm: str
    """Evidence that the candidate is worse than its margin allows, of what rolls back: `1.2/6.2`, nats."""
    fit: str = ""
    """Evidence that it is not, of what promotion waits for; empty for a guard."""
    outcome: str


class Status(Config):
    """The status of a ModelRollout."""

    rollout: str = ""
    """Id in the decision log."""
    phase: str = ""
    step: str = ""
    """Which of how many."""
    weight: int = Field(default=0)
    """Intended share of the candidate, percent."""
    observed_weight: int | None = None
    """Share that the gateway took over; absent where unknown."""
    shadow: int = 0
    stable: str = ""
    candidate: str = ""
    reason: str = ""
    requests: int = 0
    """Answers of the candidate that were counted as evidence."""
    evidence: tuple[Evidence, ...] = ()
    observed_generation: int = 0
    stable_spec: dict[str, JsonValue] | None = None
    """The routing before the first change: what a deletion restores even where the decision log is lost."""
    conditions: tuple[Condition, ...] = ()


class Fact(NamedTuple):
    """A condition without its time."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


def of(spec: RolloutSpec, state: RolloutState, seen: Observation | None, findings: tuple[Finding, ...]) -> Json:
    """The facts of one look, without conditions."""
    router = seen.router.weights if seen and seen.router else None
    shown = Status(
        rollout=state.id,
        phase=state.phase.value,
        step=f"{state.step + 1}/{len(spec.steps)}",
        weight=state.weight,
        observed_weight=router.candidate if router else None,
        shadow=state.shadow,
        stable=spec.stable,
        candidate=spec.candidate,
        reason=state.reason,
        requests=max((total.candidate for total in state.totals.values()), default=0),
        evidence=tuple(
            Evidence(
                metric=f.metric,
                harm=f"{f.harm:.1f}/{f.harm_limit:.1f}",
                fit="" if f.fit is None else f"{f.fit:.1f}/{f.fit_limit:.1f}",
                outcome=f.verdict.outcome.value,
            )
            for f in findings
        ),
        stable_spec=state.stable_spec,
    )
    fields = shown.model_dump(mode="json", exclude={"conditions", "observed_generation"})
    return {camel(name): value for name, value in fields.items()}


def facts(state: RolloutState, seen: Observation | None, forbidden: dict[str, str]) -> list[Fact]:
    """The conditions of a rollout that was accepted."""
    failures = "; ".join(seen.failures) if seen else ""
    missing = "; ".join(sorted(set(forbidden.values())))
    outcome: dict[Phase, Fact] = {
        Phase.PROMOTED: Fact("Succeeded", "True", "Promoted", state.reason),
        Phase.COMPLETED: Fact("Succeeded", "True", "Completed", state.reason),
        Phase.ROLLED_BACK: Fact("Succeeded", "False", "RolledBack", state.reason),
    }
    return [
        Fact("Accepted", "True", "Accepted"),
        Fact("Progressing", "False" if state.ended or state.paused else "True", _word(state), state.reason),
        Fact("Permitted", "False", "Forbidden", missing) if missing else Fact("Permitted", "True", "Allowed"),
        Fact("Observed", "False", "Unreachable", failures) if failures else Fact("Observed", "True", "Seen"),
        outcome.get(state.phase, Fact("Succeeded", "Unknown", _word(state))),
    ]


def merged(known: list[Json], new: list[Fact], generation: int) -> list[Json]:
    """Conditions with their times: a time changes when the status does."""
    times = {(c["type"], c["status"]): c["lastTransitionTime"] for c in known if "lastTransitionTime" in c}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    kept = [c for c in known if c["type"] not in {fact.type for fact in new}]
    return [
        *kept,
        *(
            {
                "type": fact.type,
                "status": fact.status,
                "reason": fact.reason,
                "message": fact.message,
                "observedGeneration": generation,
                "lastTransitionTime": times.get((fact.type, fact.status), now),
            }
            for fact in new
        ),
    ]


def _word(state: RolloutState) -> str:
    if state.paused and not state.ended:
        return "Paused"
    return "".join(part.capitalize() for part in state.phase.value.split("_"))
