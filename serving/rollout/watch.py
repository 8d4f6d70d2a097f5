"""A rollout as lines of text, for a terminal that is drawn again after every look."""

from core.evidence import standing
from core.evidence.judge import Finding
from core.verdict import Outcome
from serving.rollout import judging
from serving.rollout.metrics import MIXES
from serving.rollout.phases import waits_for
from serving.rollout.spec import RolloutSpec
from serving.rollout.state import Phase, RolloutState
from serving.rollout.tally import Totals
from serving.rollout.weights import shares

BAR = 12
"""Characters of a bar."""
GROUPS = 5
"""Guarded groups that are shown: those with the most evidence of harm."""


def watch_lines(state: RolloutState, spec: RolloutSpec) -> list[str]:
    """Where the rollout is, shares, evidence of each metric towards its limits, what is still needed, what is next."""
    judged = judging.judged(spec, state)
    step = f", step {state.step + 1} of {len(spec.steps)}" if state.step >= 0 else ""
    paused = ", paused" if state.paused else ""
    lines = [
        f"rollout {state.id}: {spec.workload}, {spec.candidate[:12]} after {spec.stable[:12]}",
        f"{state.phase.value.replace('_', ' ')}{step}, attempt {state.attempt}{paused}",
        _weights(spec, state),
        "",
        f"{'metric':<26} {'stable':>8} {'candidate':>9}  {'harm':<{BAR + 2}}  {'good':<{BAR + 2}}  requests to go",
    ]
    to_go = _to_go(spec, state)
    groups = sorted((f for f in judged.findings if "/" in f.metric), key=lambda f: f.harm / f.harm_limit, reverse=True)
    shown = [f for f in judged.findings if f not in groups[GROUPS:]]
    lines += [_metric(state, finding, to_go) for finding in shown]
    lines += [f"and {len(groups) - GROUPS} groups with less evidence of harm"] if len(groups) > GROUPS else []
    if judged.limits and judged.limits.value is not None and judged.limits.limit:
        lines.append(f"{'fixed limits':<45} {bar(judged.limits.value / judged.limits.limit)}")
    return [*lines, "", f"next: {_next(spec, state, judged.shown)}"]


def bar(part: float) -> str:
    """How far something is towards its limit, 0..1."""
    full = round(BAR * min(max(part, 0.0), 1.0))
    return f"[{'#' * full}{'-' * (BAR - full)}]"


def _weights(spec: RolloutSpec, state: RolloutState) -> str:
    split = shares(spec, state.weight)
    parts = [f"stable {split.stable} %", f"candidate {split.candidate} %"]
    parts += [f"baseline {split.baseline} %"] if split.baseline else []
    parts += [f"mirrored {state.shadow} %"] if state.shadow else []
    if state.ended:
        return "all traffic to stable, which is the candidate now" if state.phase is Phase.PROMOTED else parts[0]
    return f"{', '.join(parts)} ({'in force' if state.in_force else 'not yet in force'})"


def _to_go(spec: RolloutSpec, state: RolloutState) -> dict[str, float]:
    """Requests of both arms expected until a metric is decided, as the rates look now."""
    split = shares(spec, state.weight)
    candidate = state.weight or state.shadow
    share = candidate / (candidate + (split.baseline or split.stable)) if candidate else 0.0
    rows = standing.standings(spec.questions.judge, state.evidence, share)
    needed = {row.metric: row.to_promotion if row.to_rollback is None else row.to_rollback for row in rows}
    return {name: number for name, number in needed.items() if number}


def _metric(state: RolloutState, finding: Finding, to_go: dict[str, float]) -> str:
    seen = state.totals.get(finding.metric, Totals())
    mix = finding.metric in MIXES
    stable = f"{seen.stable_bad / seen.stable:.2%}" if seen.stable and not mix else "-"
    candidate = f"{seen.candidate_bad / seen.candidate:.2%}" if seen.candidate and not mix else "-"
    good = bar(finding.fit / finding.fit_limit) if finding.fit is not None else " " * (BAR + 2)
    mark = {Outcome.FAIL: "HARMFUL", Outcome.PASS: "shown"}.get(finding.verdict.outcome)
    needed = f"{to_go[finding.metric]:,.0f}" if finding.metric in to_go else ""
    harm = bar(finding.harm / finding.harm_limit)
    return f"{finding.metric:<26} {stable:>8} {candidate:>9}  {harm}  {good}  {mark or needed}".rstrip()


def _next(spec: RolloutSpec, state: RolloutState, shown: bool) -> str:
    match state.phase:
        case Phase.STEPPING:
            then = _after(spec, state)
            return f"{then}, after {', '.join(waits_for(spec, state, shown)) or 'this look'}"
        case Phase.APPROVAL:
            return f"{_after(spec, state)}, after somebody approves step {state.step + 1}"
        case Phase.CONFIRMING:
            missing = [h.name for h in spec.confirms if h.before == state.gate and h.name not in state.confirmed]
            return f"{state.gate}, after a yes from {', '.join(missing) or 'nobody'}"
        case Phase.PREPARING:
            return "checks, when the candidate is ready"
        case Phase.CHECKING:
            return "the first step, when the checks pass"
        case Phase.PROMOTING:
            return "promoted, when router and registry have the candidate as stable"
        case Phase.RESTORING:
            return f"{state.ending.value.replace('_', ' ')}, when stable has all traffic again; because: {state.reason}"
    return f"nothing; {state.reason or 'the candidate is stable now'}"


def _after(spec: RolloutSpec, state: RolloutState) -> str:
    if state.step + 1 == len(spec.steps):
        return "promotion" if spec.promotes else "back to stable"
    step = spec.steps[state.step + 1]
    return f"weight {step.weight} %" if step.weight else f"mirroring {step.shadow} %"
