"""A candidate becomes stable: the final evaluation, the aliases, the stack, the audit log (R04).

The side `final_eval` of its dataset is read here and nowhere else: nothing before chose anything by it. A rollout moves
the stack by itself (titrate/rollouts/router.py) and calls `alias_promoted` and `alias_restored` for the registry.
"""

from components.evaluate.evaluate import evaluate
from components.evaluate.report import EvaluationReport
from components.gate.gate import gate, refuse_unless_passed
from components.register.registry import CANDIDATE, STABLE, Registered, Registry
from core import audit
from core.errors import UserError
from core.home import Home
from core.objects import Store
from core.slo import Slo
from serving.rollout.spec import RolloutSpec
from titrate.stack.releases import verified
from titrate.stack.state import Serving, change, serving, set_stable, wanted


def promote_first(home: Home, candidate: Registered) -> EvaluationReport | None:
    """Promote the first release of a workload: it has no stable to be compared with, so the final evaluation decides.

    Returns that evaluation; None when there is a stable release: a later candidate needs a rollout. Raises UserError
    when the candidate does not pass.
    """
    if Registry(home.registry).get(candidate.workload, STABLE):
        return None
    report = final_evaluation(home, candidate)
    refuse_unless_passed(gate(report, Slo.load(candidate.workload)))
    promote(home, candidate, f"first release; accuracy {report.accuracy.value:.3f} on final_eval")
    return report


def settle(home: Home, digest: str) -> str:
    """Promote the candidate of a run when it is the first release; says what became of it, and what to do next."""
    candidate = Registry(home.registry).find(digest)
    if report := promote_first(home, candidate):
        return (
            f"stable   {candidate.short}: the first release of {candidate.workload!r}, accuracy "
            f"{report.accuracy.value:.3f} on the {report.rows} images of final_eval\n"
            "next     titrate stack up; titrate predict IMAGE..."
        )
    return f"release  {candidate.short} is {' and '.join(candidate.aliases) or 'registered'} of {candidate.workload!r}"


def final_evaluation(home: Home, candidate: Registered) -> EvaluationReport:
    """Measure a release on the side that nothing else reads."""
    store = Store(str(home.objects))
    dataset = store.fetch(f"datasets/{candidate.tags['dataset']}", home.cache / "datasets" / candidate.tags["dataset"])
    release = verified(home, candidate.digest)
    return evaluate(dataset, release, store, home.cache / "final" / candidate.digest, home.cache, "final_eval")


def promote(home: Home, candidate: Registered, why: str) -> None:
    """Point `stable` at `candidate` and let the stack serve it; a failure half-way restores the previous stable."""
    registry = Registry(home.registry)
    previous = registry.get(candidate.workload, STABLE)
    served = serving(home).get(candidate.workload)
    try:
        registry.point(candidate.workload, STABLE, candidate.version)
        set_stable(home, candidate.workload, candidate.digest)
        _log(home, "promoted", candidate, why, previous)
    except BaseException:
        if previous:
            registry.point(candidate.workload, STABLE, previous.version)
        else:
            registry.remove_alias(candidate.workload, STABLE)
        if served:
            set_stable(home, candidate.workload, served)
        raise
    registry.remove_alias(candidate.workload, CANDIDATE)


def alias_promoted(home: Home, spec: RolloutSpec) -> None:
    """Point `stable` at the candidate of a rollout, and say so in the audit log; harmless when it was done.

    Raises UserError when the registry does not know the release.
    """
    registry = Registry(home.registry)
    candidate, previous = registry.find(spec.candidate), registry.get(spec.workload, STABLE)
    if previous and previous.digest == spec.candidate:
        return
    registry.point(spec.workload, STABLE, candidate.version)
    _log(home, "promoted", candidate, f"by its rollout {spec.digest[:12]}", previous)
    registry.remove_alias(spec.workload, CANDIDATE)


def alias_restored(home: Home, spec: RolloutSpec) -> None:
    """Point `stable` back at the former release, when a promotion failed half-way (R04)."""
    registry = Registry(home.registry)
    former, now = registry.find(spec.stable), registry.get(spec.workload, STABLE)
    if now and now.digest == spec.stable:
        return
    registry.point(spec.workload, STABLE, former.version)
    _log(home, "restored", former, f"the promotion of {spec.candidate[:12]} failed", now)


def roll_back(home: Home, workload: str, why: str, keep: bool = True) -> tuple[str, str]:
    """Give all traffic back to the former stable release, whose server is ready; returns (new stable, old stable).

    The stack first, then the registry. `keep`: the release that goes stays ready for the way back. Raises UserError
    when there is no former release.
    """
    now = wanted(home)
    stable, former = now.stable.get(workload), now.kept.get(workload)
    if stable is None or former is None:
        raise UserError(f"{workload!r} has no former stable release that is kept; start a rollout of an older one")

    def swapped(before: Serving) -> Serving:
        kept = {name: release for name, release in before.kept.items() if name != workload}
        kept |= {workload: stable} if keep else {}
        return before.model_copy(update={"stable": {**before.stable, workload: former}, "kept": kept})

    change(home, swapped)
    registry = Registry(home.registry)
    registry.point(workload, STABLE, registry.find(former).version)
    _log(home, "rolled_back", registry.find(former), why, registry.find(stable))
    return former, stable


def _log(home: Home, kind: str, release: Registered, why: str, previous: Registered | None) -> None:
    audit.append(
        home.root / "audit.jsonl",
        kind,
        workload=release.workload,
        release=release.digest,
        former=previous.digest if previous else None,
        why=why,
    )
