"""New counts go to core/evidence, its findings come back as verdicts. No statistics of its own."""

from collections.abc import Mapping
from typing import NamedTuple

from core.evidence import judge, one_sample
from core.evidence.judge import Finding, JudgeState
from core.evidence.one_sample import Monitor, MonitorState
from core.evidence.strata import Observation
from core.verdict import Outcome, Verdict
from serving.rollout.metrics import DRIFT
from serving.rollout.spec import FULL, RolloutSpec
from serving.rollout.state import RolloutState
from serving.rollout.tally import Coverage, Increment, Totals


class Judged(NamedTuple):
    """What one look found."""

    findings: tuple[Finding, ...]
    limits: Verdict | None
    world: Verdict | None
    harmful: Verdict | None
    """The first verdict that rolls back."""
    shown: bool
    """Every metric that promotion waits for is within its margin."""

    @property
    def world_changed(self) -> bool:
        """Whether stable's inputs have drifted, and so everybody's."""
        return self.world is not None and self.world.outcome is Outcome.FAIL

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """All of them, the metrics first."""
        rest = (verdict for verdict in (self.limits, self.world) if verdict)
        return (*(finding.verdict for finding in self.findings), *rest)


def add(spec: RolloutSpec, state: RolloutState, increments: Mapping[str, Increment]) -> RolloutState:
    """State after the counts of one look."""
    asked = spec.questions
    both = {
        name: Observation(stable=new.stable, candidate=new.candidate)
        for name, new in increments.items()
        if name not in spec.one_armed and (sum(new.stable) > 0 or state.weight < FULL)
    }
    alone = {
        name: (sum(new.candidate), new.candidate[0])
        for name, new in increments.items()
        if name in spec.limited and name not in both
    }
    world = {DRIFT: (sum(new.stable), new.stable[0])} if (new := increments.get(DRIFT)) else {}
    return state.model_copy(
        update={
            "evidence": judge.look(asked.judge, state.evidence, both) if both else state.evidence,
            "limits": _watch(asked.limits, state.limits, alone),
            "world": _watch(asked.world, state.world, world),
        }
    )


def _watch(monitor: Monitor | None, state: MonitorState | None, new: dict[str, tuple[int, int]]) -> MonitorState | None:
    return one_sample.observe(monitor, state, new) if monitor and state and new else state


def judged(spec: RolloutSpec, state: RolloutState) -> Judged:
    """Where every metric stands. No counts are inconclusive, and so are labels that cover the arms unequally."""
    asked = spec.questions
    world = one_sample.judge(asked.world, state.world) if asked.world and state.world else None
    changed = world is not None and world.outcome is Outcome.FAIL
    findings = tuple(_doubted(spec, state, f, changed) for f in judge.findings(asked.judge, state.evidence))
    limits = one_sample.judge(asked.limits, state.limits) if asked.limits and state.limits else None
    failed = [f.verdict for f in findings if f.verdict.outcome is Outcome.FAIL]
    failed += [limits] if limits and limits.outcome is Outcome.FAIL else []
    shown = all(f.verdict.outcome is Outcome.PASS for f in findings if f.fit is not None)
    if world:
        world = world.model_copy(update={"question": f"inputs of stable: {world.question}"})
    return Judged(findings, limits, world, failed[0] if failed else None, shown)


def _doubted(spec: RolloutSpec, state: RolloutState, finding: Finding, world_changed: bool) -> Finding:
    """The finding, inconclusive where its counts cannot decide."""
    reason = None
    base = finding.metric.partition("/")[0]
    if state.totals.get(finding.metric, Totals()).candidate == 0:
        reason = "no counts of the candidate"
    elif base in spec.labelled:
        reason = _uncovered(spec.labelled[base], state.coverage.get(base, Coverage()))
    elif finding.metric == DRIFT and world_changed:
        reason = "the inputs of stable have drifted too: the world changed, not the candidate"
    if reason is None:
        return finding
    doubted = finding.verdict.model_copy(update={"outcome": Outcome.INCONCLUSIVE, "reason": reason})
    return finding.model_copy(update={"verdict": doubted})


def _uncovered(ratio: float, seen: Coverage) -> str | None:
    """Why labels cannot compare the arms: one is labelled much less than the other."""
    if not (seen.stable_eligible and seen.candidate_eligible):
        return "no labels yet that cover both arms"
    stable, candidate = seen.stable_labelled / seen.stable_eligible, seen.candidate_labelled / seen.candidate_eligible
    if min(stable, candidate) >= ratio * max(stable, candidate) > 0:
        return None
    return f"labels cover {candidate:.1%} of the candidate's answers and {stable:.1%} of stable's: not comparable"


def begin(spec: RolloutSpec) -> tuple[JudgeState, MonitorState | None, MonitorState | None]:
    """(evidence, limits, world) before the first look."""
    asked = spec.questions
    limits, world = (one_sample.begin(monitor) if monitor else None for monitor in asked[1:])
    return judge.begin(asked.judge), limits, world
