"""Results of actions and commands of people, applied to the state. What does not fit the moment changes nothing."""

from core.verdict import Outcome, Verdict
from serving.rollout.actions import action_id
from serving.rollout.observations import Command, Result
from serving.rollout.spec import RolloutSpec
from serving.rollout.state import REMEMBERED, Phase, RolloutState
from serving.rollout.transitions import enter, promote, restore, retry


def apply_result(state: RolloutState, result: Result) -> RolloutState:
    """The state after an action's result; of an earlier attempt or another phase: unchanged."""
    kept = tuple(notice for notice in state.notices if notice.id != result.action)
    state = state.model_copy(update={"notices": kept})
    attempt, _, name = result.action.partition("/")
    if attempt != str(state.attempt):
        return state
    kind, _, rest = name.partition("/")
    match state.phase, kind:
        case Phase.PREPARING, "store" | "start":
            return _prepared(state, kind, result)
        case Phase.CHECKING, "check":
            return _checked(state, rest, result)
        case Phase.CONFIRMING, "confirm":
            prefix = action_id(state, "confirm", state.gate, str(state.step), "")
            hook = result.action.removeprefix(prefix)
            if result.ok and result.action.startswith(prefix) and hook not in state.confirmed:
                return state.model_copy(update={"confirmed": (*state.confirmed, hook)})
        case Phase.PROMOTING, "promote" | "retire":
            return _promoted(state, kind, result)
        case Phase.RESTORING, "restore" | "undo" | "stop" if result.ok:
            done = {"restore": "restored", "undo": "undone", "stop": "stopped"}[kind]
            return state.model_copy(update={done: True})
    return state


def _prepared(state: RolloutState, kind: str, result: Result) -> RolloutState:
    if not result.ok:
        what = "the stable state could not be stored" if kind == "store" else "the candidate could not be started"
        return restore(state, f"{what}: {result.detail}")
    if kind == "start":
        return state.model_copy(update={"started": True})
    return state.model_copy(update={"stable_spec": result.payload or {}})


def _checked(state: RolloutState, name: str, result: Result) -> RolloutState:
    if not result.ok:
        return restore(state, f"check {name!r} failed: {result.detail}")
    return state.model_copy(update={"checked": (*(c for c in state.checked if c != name), name)})


def _promoted(state: RolloutState, kind: str, result: Result) -> RolloutState:
    if kind == "promote" and not result.ok:
        return restore(state, f"the promotion failed: {result.detail}")
    if kind == "promote":
        return state.model_copy(update={"promotion": "done"})
    if not result.ok:
        return enter(state, Phase.PROMOTED, "promoted", f"promoted; the former stable stays: {result.detail}")
    return enter(state, Phase.PROMOTED, "promoted", "promoted; the former stable is removed")


def obey(spec: RolloutSpec, state: RolloutState, command: Command) -> tuple[RolloutState, Verdict | None]:
    """The state after a command, or why it is refused; a command that was already taken changes nothing."""
    if command.id in state.commands:
        return state, None
    state = state.model_copy(update={"commands": (*state.commands, command.id)[-REMEMBERED:]})
    if refusal := _refusal(state, command):
        question = f"command {command.name} by {command.by}"
        return state, Verdict(question=question, outcome=Outcome.ERROR, reason=f"refused: {refusal}")
    match command.name:
        case "pause" | "resume":
            return state.model_copy(update={"paused": command.name == "pause"}), None
        case "approve":
            return state.model_copy(update={"phase": Phase.STEPPING, "approved": True}), None
        case "abort":
            return restore(state, f"aborted by {command.by}"), None
        case "promote":
            return promote(spec, state, command.by), None
        case "retry":
            return retry(spec, state, command.by), None


def _refusal(state: RolloutState, command: Command) -> str | None:
    where = f"the rollout is {state.phase.value.replace('_', ' ')}"
    if command.name == "retry":
        return None if state.phase is Phase.ROLLED_BACK else f"{where}; only one that was rolled back can be retried"
    if state.ended or state.phase is Phase.RESTORING:
        return where
    if state.promotion == "done":
        return "the candidate is promoted; roll back the release instead"
    match command.name:
        case "approve" if state.phase is not Phase.APPROVAL:
            return f"{where}; nothing waits for an approval"
        case "approve" if command.step not in (None, state.step):
            return f"it is meant for step {command.step}, and step {state.step} waits"
        case "promote" | "pause" if state.phase is Phase.PROMOTING:
            return f"{where}; abort is what is left"
        case "promote" if state.step < 0:
            return f"{where}; the candidate has not passed its checks"
    return None
