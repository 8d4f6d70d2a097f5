"""The rollout engine: a pure function from what is known and what was seen to what is known and what is to be done.

No clock, no client, no file. Control goes: counters -> `counting`, counts -> `judging` (core/evidence), results and
commands -> `incoming`, the change of phase -> `phases`, what is wanted now -> `actions`.
"""

from collections.abc import Iterable
from typing import NamedTuple

from core.evidence.judge import Finding
from core.verdict import Outcome, Verdict
from serving.rollout import judging, tally
from serving.rollout.actions import Action, outstanding
from serving.rollout.counting import Counted, count
from serving.rollout.incoming import apply_result, obey
from serving.rollout.observations import Observation
from serving.rollout.phases import Look, advance, in_force
from serving.rollout.spec import RolloutSpec
from serving.rollout.state import Phase, RolloutState
from serving.rollout.transitions import knock, notify

GAP = 3
"""Looks: a longer gap counts as this many, because nobody watched during the rest of it."""


class Decision(NamedTuple):
    """What one call decided."""

    state: RolloutState
    actions: tuple[Action, ...]
    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...] = ()
    """The numbers behind the metrics' verdicts."""


def begin(spec: RolloutSpec, rollout: str) -> RolloutState:
    """The state before the first look of the rollout with the id `rollout`."""
    evidence, limits, world = judging.begin(spec)
    state = RolloutState(id=rollout, spec_digest=spec.digest, evidence=evidence, limits=limits, world=world)
    return knock(spec, state, "start")


def decide(spec: RolloutSpec, state: RolloutState, observations: Iterable[Observation]) -> Decision:
    """The next state, what is to be done and why. Total: it raises nothing on any input of these types.

    Observations may come twice and in any order; those not newer than the last one change nothing. A spec other than
    the one that the rollout began with is refused, and changes nothing either.
    """
    if spec.digest != state.spec_digest:
        return Decision(state, (), (_edited(spec, state),))
    fresh = {seen.sequence: seen for seen in observations if seen.sequence > state.seen}
    decision = Decision(state, (), (_NOTHING,))
    for sequence in sorted(fresh):
        decision = _look(spec, decision.state, fresh[sequence])
    return decision


def _look(spec: RolloutSpec, before: RolloutState, seen: Observation) -> Decision:
    seconds = min(max(seen.at - before.at, 0.0), GAP * spec.look_seconds) if before.at is not None else 0.0
    state = before.model_copy(update={"seen": seen.sequence, "at": seen.at, "clock": before.clock + seconds})
    counted = count(spec, state, seen.readings)
    state = _learn(spec, state, counted)
    state = _health(state, seen)
    for result in seen.results:
        state = apply_result(state, result)
    refused = []
    for command in seen.commands:
        state, refusal = obey(spec, state, command)
        refused += [refusal] if refusal else []
    judged = judging.judged(spec, state)
    state = _alert(state, judged)
    now = in_force(spec, state, seen)
    look = Look(seen, judged, seconds, bool(counted.increments), now and before.in_force)
    state = advance(spec, state.model_copy(update={"in_force": now}), look)
    state = state.model_copy(update={"in_force": now and in_force(spec, state, seen)})
    verdicts = (*judged.verdicts, *_own(spec, before, state, seen), *_problems(counted, seen), *refused)
    return Decision(state, outstanding(spec, state, seen), verdicts, judged.findings)


def dosed(state: RolloutState) -> bool:
    """Whether the candidate gets requests that are evidence: not its checks, not what comes after promotion began."""
    return bool(state.weight or state.shadow) and not state.promotion


def _learn(spec: RolloutSpec, state: RolloutState, counted: Counted) -> RolloutState:
    """The state with the new counts; without a dose only the counters' positions move."""
    state = state.model_copy(update={"cursors": counted.cursors})
    if not dosed(state) or not counted.increments:
        return state
    new = {
        "totals": tally.totals(state.totals, counted.increments),
        "coverage": tally.coverage(state.coverage, counted.increments, spec.labelled),
        "step_counts": tally.answered(state.step_counts, counted.increments),
    }
    return judging.add(spec, state, counted.increments).model_copy(update=new)


def _health(state: RolloutState, seen: Observation) -> RolloutState:
    """The state with the candidate's readiness; restarts are counted from its first report."""
    if seen.candidate is None or not state.started:
        return state
    restarts = seen.candidate.restarts
    first = restarts if state.restarts is None else min(state.restarts, restarts)
    since = None if seen.candidate.ready else state.clock if state.unready_since is None else state.unready_since
    return state.model_copy(update={"restarts": first, "unready_since": since})


def _alert(state: RolloutState, judged: judging.Judged) -> RolloutState:
    """The state with an alert, once, when the inputs have drifted for stable too; nothing is rolled back for it."""
    if state.alerted or not judged.world_changed:
        return state
    text = "stable's inputs have drifted from the reference: the world changed; nothing is rolled back for it"
    return notify(state, "alert", text).model_copy(update={"alerted": True})


def _own(spec: RolloutSpec, before: RolloutState, state: RolloutState, seen: Observation) -> list[Verdict]:
    """The engine's verdicts: the shares in force, and a failure that is not a metric's."""
    found = []
    if dosed(state) and not in_force(spec, state, seen):
        report = seen.router.weights if seen.router else None
        shown = f"{report.candidate} %" if report else "unknown"
        reason = f"the candidate's weight in force is {shown}, intended {state.weight} %; the bake waits"
        found.append(Verdict(question="weights", outcome=Outcome.INCONCLUSIVE, reason=reason))
    failed = state.phase is Phase.RESTORING and before.phase is not Phase.RESTORING
    if failed and state.ending is Phase.ROLLED_BACK:
        found.append(Verdict(question="rollout", outcome=Outcome.FAIL, reason=state.reason))
    return found


def _problems(counted: Counted, seen: Observation) -> list[Verdict]:
    wrong = [Verdict(question="readings", outcome=Outcome.ERROR, reason=text) for text in counted.problems]
    lost = (f"could not be asked: {text}; nothing is concluded from it" for text in seen.failures)
    return wrong + [Verdict(question="sources", outcome=Outcome.INCONCLUSIVE, reason=text) for text in lost]


def _edited(spec: RolloutSpec, state: RolloutState) -> Verdict:
    reason = (
        f"refused: rollout {state.id} runs by spec {state.spec_digest[:12]}, this one is {spec.digest[:12]}; "
        "abort it and start a new one to change its spec"
    )
    return Verdict(question="spec", outcome=Outcome.ERROR, reason=reason)


_NOTHING = Verdict(question="observations", outcome=Outcome.INCONCLUSIVE, reason="nothing new was observed")
