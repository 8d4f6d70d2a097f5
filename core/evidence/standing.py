"""What people see of the judge between looks: rates with their certainty, and requests still needed."""

import numpy as np

from core.config import Config
from core.evidence import confidence, judge, planning
from core.evidence.bernoulli import Array
from core.evidence.judge import Finding, Judge, JudgeState, Metric

Ends = tuple[float, float, float]
"""Lower end, estimate, upper end."""


class Standing(Config):
    """One metric without categories."""

    metric: str
    stable: Ends
    candidate: Ends
    excess: Ends
    """Candidate's rate minus stable's, look by look."""
    to_rollback: float | None
    """Requests of both arms expected until rollback if the rates stay as they look now; None: not on this way."""
    to_promotion: float | None
    """The same until the candidate is shown to be within the margin."""


def standings(spec: Judge, state: JudgeState, share: float, alpha: float = 0.05) -> tuple[Standing, ...]:
    """Where the metrics without categories stand while the candidate gets `share` of the requests.

    Each interval holds at all looks at once with probability 1 - alpha.
    """
    sums = confidence.Sums(*np.array(state.sums).T)
    ends = (
        confidence.rate(sums.n_s, sums.k_s, sums.v_s, alpha),
        confidence.rate(sums.n_c, sums.k_c, sums.v_c, alpha),
        confidence.excess(sums, alpha),
    )
    found = judge.findings(spec, state)
    return tuple(
        _standing(metric, found[i], [np.array(part)[:, i] for part in ends], share)
        for i, metric in enumerate(spec.metrics)
        if metric.categories is None
    )


def _standing(metric: Metric, finding: Finding, ends: list[Array], share: float) -> Standing:
    stable, candidate, excess = (_ends(part) for part in ends)
    gain = planning.growth(stable[1], min(max(stable[1] + excess[1], 0.0), 1.0), metric.margin, share)
    harmful = excess[1] > metric.margin
    missing = finding.harm_limit - finding.harm if harmful else finding.fit_limit - (finding.fit or 0.0)
    needed = max(missing, 0.0) / gain if gain > 0 else None
    return Standing(
        metric=metric.name,
        stable=stable,
        candidate=candidate,
        excess=excess,
        to_rollback=needed if harmful else None,
        to_promotion=None if harmful or finding.fit is None else needed,
    )


def _ends(values: Array) -> Ends:
    low, middle, high = values.tolist()
    return low, middle, high
