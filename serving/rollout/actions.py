"""What the engine wants done. An action is wanted again at every look until its effect or its result is observed.

So nothing has to be remembered about what was already tried, and every action must be harmless when it is repeated.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from core.config import Config
from serving.rollout.observations import Observation, Weights
from serving.rollout.spec import Check, Confirm, RolloutSpec
from serving.rollout.state import Phase, RolloutState
from serving.rollout.weights import shares


class StoreStable(Config):
    """Keep the router's complete state before its first change; the result's payload is what `RestoreStable` gets."""

    kind: Literal["store_stable"] = "store_stable"
    id: str


class StartCandidate(Config):
    """Start the candidate's server, without traffic."""

    kind: Literal["start_candidate"] = "start_candidate"
    id: str
    release: str


class RunCheck(Config):
    """Send a check's requests to the candidate alone."""

    kind: Literal["run_check"] = "run_check"
    id: str
    check: Check


class RunWebhook(Config):
    """Ask somebody whether the rollout may go on."""

    kind: Literal["run_webhook"] = "run_webhook"
    id: str
    hook: Confirm


class SetWeights(Config):
    """Give the arms these shares; has no result, the router's report says what is in force."""

    kind: Literal["set_weights"] = "set_weights"
    id: str
    weights: Weights


class SetShadow(Config):
    """Mirror this share of stable's requests to the candidate; has no result."""

    kind: Literal["set_shadow"] = "set_shadow"
    id: str
    percent: int = Field(ge=0, le=100)


class Promote(Config):
    """Make the candidate the stable release: at the router and in the registry."""

    kind: Literal["promote"] = "promote"
    id: str
    release: str


class RetireStable(Config):
    """Remove the former stable."""

    kind: Literal["retire_stable"] = "retire_stable"
    id: str
    release: str


class UndoPromotion(Config):
    """Put the registry back to the former stable (R04)."""

    kind: Literal["undo_promotion"] = "undo_promotion"
    id: str
    release: str


class RestoreStable(Config):
    """Put the router back to what was stored."""

    kind: Literal["restore_stable"] = "restore_stable"
    id: str


class StopCandidate(Config):
    """Stop the candidate's server; only once it has no traffic."""

    kind: Literal["stop_candidate"] = "stop_candidate"
    id: str
    release: str


class Notify(Config):
    """Tell people and webhooks; its result, good or bad, ends it."""

    kind: Literal["notify"] = "notify"
    id: str
    event: str
    text: str


Action = Annotated[
    StoreStable
    | StartCandidate
    | RunCheck
    | RunWebhook
    | SetWeights
    | SetShadow
    | Promote
    | RetireStable
    | UndoPromotion
    | RestoreStable
    | StopCandidate
    | Notify,
    Field(discriminator="kind"),
]


def action_id(state: RolloutState, *words: str) -> str:
    """The name of an action: the same at every look of one attempt."""
    return "/".join((str(state.attempt), *words))


def missing_confirms(spec: RolloutSpec, state: RolloutState) -> list[Confirm]:
    """Webhooks that have not said yes at this gate."""
    return [hook for hook in spec.confirms if hook.before == state.gate and hook.name not in state.confirmed]


def outstanding(spec: RolloutSpec, state: RolloutState, seen: Observation) -> tuple[Action, ...]:
    """What is to be done now, in this order."""
    told = (Notify(id=notice.id, event=notice.event, text=notice.text) for notice in state.notices)
    return (*_of_phase(spec, state, seen), *told)


def _of_phase(spec: RolloutSpec, state: RolloutState, seen: Observation) -> Iterator[Action]:
    match state.phase:
        case Phase.CONFIRMING:
            yield from _shares(spec, state, seen)
            for hook in missing_confirms(spec, state):
                name = action_id(state, "confirm", state.gate, str(state.step), hook.name)
                yield RunWebhook(id=name, hook=hook)
        case Phase.PREPARING:
            yield from _preparing(spec, state, seen)
        case Phase.CHECKING:
            yield from _shares(spec, state, seen)
            waiting = [check for check in spec.checks if check.name not in state.checked]
            yield from (RunCheck(id=action_id(state, "check", c.name), check=c) for c in waiting[:1])
        case Phase.STEPPING | Phase.APPROVAL:
            yield from _shares(spec, state, seen)
        case Phase.PROMOTING:
            yield from _promoting(spec, state, seen)
        case Phase.RESTORING:
            yield from _restoring(spec, state, seen)


def _preparing(spec: RolloutSpec, state: RolloutState, seen: Observation) -> Iterator[Action]:
    yield from _shares(spec, state, seen)
    if state.stable_spec is None and idle(seen):  # what is restored at the end must give everything to stable
        yield StoreStable(id=action_id(state, "store"))
    elif state.stable_spec is None:
        return
    elif not state.started:
        yield StartCandidate(id=action_id(state, "start"), release=spec.candidate)


def _shares(spec: RolloutSpec, state: RolloutState, seen: Observation) -> Iterator[Action]:
    """What the router must change; nothing before its state was stored."""
    if state.stable_spec is None:
        return
    wanted = shares(spec, state.weight)
    if seen.router is None or seen.router.weights != wanted:
        yield SetWeights(id=action_id(state, "weights", str(state.weight)), weights=wanted)
    if seen.router is None or seen.router.shadow != state.shadow:
        yield SetShadow(id=action_id(state, "shadow", str(state.shadow)), percent=state.shadow)


def _promoting(spec: RolloutSpec, state: RolloutState, seen: Observation) -> Iterator[Action]:
    match state.promotion:
        case "":
            yield from _shares(spec, state, seen)
        case "begun":  # from here the router's arms change their names: weights are no longer compared
            yield Promote(id=action_id(state, "promote"), release=spec.candidate)
        case "done":
            yield RetireStable(id=action_id(state, "retire"), release=spec.stable)


def _restoring(spec: RolloutSpec, state: RolloutState, seen: Observation) -> Iterator[Action]:
    if state.restored or not state.promotion:  # half-way through a promotion "stable" may already name the candidate
        yield from _shares(spec, state, seen)
    if state.promotion and not state.undone:
        yield UndoPromotion(id=action_id(state, "undo"), release=spec.stable)
    if state.stable_spec is not None and not state.restored:
        yield RestoreStable(id=action_id(state, "restore"))
    if state.restored and not state.stopped and idle(seen):
        yield StopCandidate(id=action_id(state, "stop"), release=spec.candidate)


def idle(seen: Observation) -> bool:
    """Whether the router says that the candidate gets nothing."""
    report = seen.router
    return report is not None and report.weights is not None and report.weights.stable == 100 and report.shadow == 0
