"""The changes of phase: each returns the state after it, with a notice for people."""

from typing import Any

from core.evidence import judge, one_sample
from serving.rollout.spec import RolloutSpec
from serving.rollout.state import REMEMBERED, Gate, Notice, Phase, RolloutState


def enter(state: RolloutState, phase: Phase, event: str, text: str, **changes: Any) -> RolloutState:
    """The state in `phase` from now on."""
    return notify(state, event, text).model_copy(update={"phase": phase, "entered": state.clock} | changes)


def notify(state: RolloutState, event: str, text: str) -> RolloutState:
    """The state with one more notice."""
    notice = Notice(f"{state.attempt}/notice/{state.told}", event, text)
    return state.model_copy(update={"notices": (*state.notices, notice)[-REMEMBERED:], "told": state.told + 1})


def knock(spec: RolloutSpec, state: RolloutState, gate: Gate) -> RolloutState:
    """Wait for the confirmations before `gate`, or go through where there are none."""
    if any(hook.before == gate for hook in spec.confirms):
        text = f"asking for confirmation before the {gate}"
        return enter(state, Phase.CONFIRMING, "confirming", text, gate=gate, confirmed=())
    return go_through(spec, state, gate)


def go_through(spec: RolloutSpec, state: RolloutState, gate: Gate) -> RolloutState:
    """What comes after a gate."""
    match gate:
        case "start":
            return enter(state, Phase.PREPARING, "started", f"starting {spec.candidate[:12]}, attempt {state.attempt}")
        case "step":
            return next_step(spec, state)
        case "promotion":
            return promote(spec, state)


def next_step(spec: RolloutSpec, state: RolloutState) -> RolloutState:
    """The first look of the next step."""
    index = state.step + 1
    step = spec.steps[index]
    what = f"weight {step.weight} %" if step.weight else f"mirroring {step.shadow} %"
    return enter(
        state,
        Phase.STEPPING,
        "step",
        f"step {index + 1} of {len(spec.steps)}: {what}",
        step=index,
        weight=step.weight,
        shadow=step.shadow,
        baked=0.0,
        step_counts={},
        approved=False,
    )


def promote(spec: RolloutSpec, state: RolloutState, by: str = "") -> RolloutState:
    """All traffic to the candidate, then its promotion."""
    text = f"promoting {spec.candidate[:12]}" + (f", by hand: {by}" if by else "")
    return enter(
        state, Phase.PROMOTING, "promoting", text, weight=100, shadow=0, paused=False, forced_by=by, promotion=""
    )


def restore(state: RolloutState, reason: str, ending: Phase = Phase.ROLLED_BACK) -> RolloutState:
    """Everything back to stable. The way here is the same for every failure."""
    word = "rolling back" if ending is Phase.ROLLED_BACK else "ending"
    undone = {"restored": False, "undone": False, "stopped": False, "paused": False, "unready_since": None}
    fields = {"weight": 0, "shadow": 0, "reason": reason, "ending": ending, **undone}
    return enter(state, Phase.RESTORING, "restoring", f"{word}: {reason}", **fields)


def retry(spec: RolloutSpec, state: RolloutState, by: str) -> RolloutState:
    """The same candidate again. Evidence for its promotion is carried on, evidence of harm begins anew."""
    asked = spec.questions
    fresh = {
        "attempt": state.attempt + 1,
        "step": -1,
        "reason": f"retried by {by}",
        "forced_by": "",
        "approved": False,
        "stable_spec": None,
        "started": False,
        "promotion": "",
        "checked": (),
        "restarts": None,
        "evidence": judge.retried(asked.judge, state.evidence),
        "limits": one_sample.begin(asked.limits) if asked.limits else None,
    }
    return knock(spec, state.model_copy(update=fresh), "start")
