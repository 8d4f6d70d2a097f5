"""How each phase ends: what it waits for, and what happens when that does not come."""

from collections.abc import Callable
from typing import NamedTuple

from core.verdict import Verdict
from serving.rollout.actions import idle, missing_confirms
from serving.rollout.judging import Judged
from serving.rollout.metrics import AGREEMENT, MIXES
from serving.rollout.observations import Observation
from serving.rollout.spec import FULL, RolloutSpec
from serving.rollout.state import Phase, RolloutState
from serving.rollout.tally import Totals
from serving.rollout.transitions import enter, go_through, knock, restore
from serving.rollout.weights import shares


class Look(NamedTuple):
    """What the current look adds to the state."""

    seen: Observation
    judged: Judged
    seconds: float
    """Watched since the last look."""
    counted: bool
    """Whether both arms had new counts."""
    held: bool
    """Whether the intended shares were in force at this look and at the one before."""


def advance(spec: RolloutSpec, state: RolloutState, look: Look) -> RolloutState:
    """The state after at most one change of phase."""
    if state.ended:
        return state
    if state.promotion == "done":  # the candidate is stable now: the watch over promoted releases takes over (R05)
        return _promoted(spec, state)
    if reason := _unhealthy(spec, state, look.seen):
        return restore(state, reason)
    if look.judged.harmful and (state.weight or state.shadow):
        return restore(state, _harm(state, look.judged.harmful))
    if state.paused or state.phase is Phase.APPROVAL:
        return state.model_copy(update={"entered": state.entered + look.seconds})
    return _PHASES[state.phase](spec, state, look)


def _unhealthy(spec: RolloutSpec, state: RolloutState, seen: Observation) -> str | None:
    """Why the candidate's server rolls back: a crash loop, or not ready for too long with a dose."""
    if state.phase is Phase.RESTORING or seen.candidate is None or not state.started:
        return None
    restarts = seen.candidate.restarts - (state.restarts or 0)
    if restarts >= spec.readiness.restarts:
        return f"the candidate crashes: {restarts} restarts; {seen.candidate.reason or 'no reason given'}"
    if state.unready_since is None or state.phase is Phase.PREPARING:
        return None
    away = state.clock - state.unready_since
    if away < spec.readiness.unready_seconds:
        return None
    return f"the candidate is not ready for {away:.0f} s; {seen.candidate.reason or 'no reason given'}"


def _harm(state: RolloutState, verdict: Verdict) -> str:
    """What was harmful, with the shares that people can check."""
    seen = state.totals.get(verdict.question.partition(":")[0], Totals())
    told = f"{verdict.question}: {verdict.reason}"
    if not (seen.candidate and seen.stable) or verdict.question.startswith(MIXES):
        return told
    mine, other = seen.candidate_bad / seen.candidate, seen.stable_bad / seen.stable
    return f"{told}; {mine:.2%} of {seen.candidate:,} answers were bad, {other:.2%} of stable's {seen.stable:,}"


def _late(state: RolloutState, seconds: float) -> bool:
    return state.clock - state.entered > seconds


def _confirming(spec: RolloutSpec, state: RolloutState, look: Look) -> RolloutState:
    missing = missing_confirms(spec, state)
    if not missing:
        return go_through(spec, state, state.gate)
    if _late(state, spec.confirm_seconds):
        return restore(state, f"{missing[0].name!r} did not confirm the {state.gate} in {spec.confirm_seconds:g} s")
    return state


def _preparing(spec: RolloutSpec, state: RolloutState, look: Look) -> RolloutState:
    report = look.seen.candidate
    if state.started and report is not None and report.ready:
        return enter(state, Phase.CHECKING, "ready", "the candidate is ready")
    if _late(state, spec.readiness.seconds) and state.stable_spec is None:
        seconds = f"{spec.readiness.seconds:g} s"
        return restore(
            state, f"the router did not say within {seconds} that stable has all traffic; end what splits it"
        )
    if _late(state, spec.readiness.seconds):
        why = (report.reason if report else "") or "no reason given"
        return restore(state, f"the candidate was not ready within {spec.readiness.seconds:g} s; {why}")
    return state


def _checking(spec: RolloutSpec, state: RolloutState, look: Look) -> RolloutState:
    missing = [check.name for check in spec.checks if check.name not in state.checked]
    if not missing:
        return knock(spec, state, "step")
    if _late(state, spec.readiness.seconds):
        return restore(state, f"check {missing[0]!r} gave no result within {spec.readiness.seconds:g} s")
    return state


def _stepping(spec: RolloutSpec, state: RolloutState, look: Look) -> RolloutState:
    step = spec.steps[state.step]
    if look.held and look.counted:
        state = state.model_copy(update={"baked": state.baked + look.seconds})
    waits = waits_for(spec, state, look.judged.shown)
    if not waits:
        return _fulfilled(spec, state)
    if _late(state, step.deadline_seconds):
        return restore(state, f"step {state.step + 1} was not done in {step.deadline_seconds:g} s: {waits[0]}")
    return state


def _fulfilled(spec: RolloutSpec, state: RolloutState) -> RolloutState:
    if spec.steps[state.step].approval and not state.approved:
        return enter(state, Phase.APPROVAL, "approval", f"step {state.step + 1} is done; somebody must approve")
    if state.step + 1 < len(spec.steps):
        return knock(spec, state, "step")
    if spec.promotes:
        return knock(spec, state, "promotion")
    return restore(state, "all steps are done; this rollout does not promote", Phase.COMPLETED)


def in_force(spec: RolloutSpec, state: RolloutState, seen: Observation) -> bool:
    """Whether the router says that the intended shares are in force."""
    report = seen.router
    return report is not None and report.weights == shares(spec, state.weight) and report.shadow == state.shadow


def waits_for(spec: RolloutSpec, state: RolloutState, shown: bool) -> list[str]:
    """What the current step still waits for, in words; empty when it is done.

    Copies are sent to compare answers: where the spec asks for pairs, a mirroring step waits for as many as requests.
    """
    step = spec.steps[state.step]
    answered = max(state.step_counts.values(), default=0)
    labelled = max((state.step_counts.get(name, 0) for name in spec.labelled), default=0)
    waits = []
    if state.baked < step.bake_seconds:
        waits.append(f"{step.bake_seconds - state.baked:.0f} s of bake")
    if answered < step.min_requests:
        waits.append(f"{step.min_requests - answered} requests of the candidate")
    if labelled < step.min_labels:
        waits.append(f"{step.min_labels - labelled} labels of the candidate")
    if step.shadow and AGREEMENT in spec.sizes and (pairs := state.step_counts.get(AGREEMENT, 0)) < step.min_requests:
        waits.append(f"{step.min_requests - pairs} mirrored answers beside stable's own")
    if not shown and needs_proof(spec, state.step):
        waits.append("evidence that every metric is within its margin")
    return waits


def needs_proof(spec: RolloutSpec, index: int) -> bool:
    """Whether a step is the last one with a stable arm before everything: what promotion waits for is shown here."""
    return index + 1 < len(spec.steps) and spec.steps[index + 1].weight == FULL


def _promoting(spec: RolloutSpec, state: RolloutState, look: Look) -> RolloutState:
    if _late(state, spec.readiness.seconds):
        return restore(state, f"the promotion was not done within {spec.readiness.seconds:g} s")
    if state.promotion == "" and state.in_force:
        return state.model_copy(update={"promotion": "begun"})
    return state


def _promoted(spec: RolloutSpec, state: RolloutState) -> RolloutState:
    if not spec.retire_stable:
        return enter(state, Phase.PROMOTED, "promoted", "promoted; the former stable is kept")
    if _late(state, spec.readiness.seconds):
        return enter(state, Phase.PROMOTED, "promoted", "promoted; the former stable could not be removed")
    return state


def _restoring(spec: RolloutSpec, state: RolloutState, look: Look) -> RolloutState:
    touched = state.stable_spec is not None  # nothing is changed or started before stable was stored
    if touched and not (state.restored and state.stopped and idle(look.seen)):
        return state
    if state.promotion and not state.undone:
        return state
    event = state.ending.value
    return enter(state, state.ending, event, f"{event.replace('_', ' ')}: {state.reason}")


_PHASES: dict[Phase, Callable[[RolloutSpec, RolloutState, Look], RolloutState]] = {
    Phase.CONFIRMING: _confirming,
    Phase.PREPARING: _preparing,
    Phase.CHECKING: _checking,
    Phase.STEPPING: _stepping,
    Phase.PROMOTING: _promoting,
    Phase.RESTORING: _restoring,
}
