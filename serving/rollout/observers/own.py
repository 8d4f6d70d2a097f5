"""Metrics of the user's own, and what an observer that counts errors and slow answers alone must refuse."""

from collections.abc import Iterator, Sequence

from core.errors import UserError
from serving.rollout.metrics import AGREEMENT, ERRORS, SLOW, Compared
from serving.rollout.observations import Reading
from serving.rollout.observers.samples import Prometheus
from serving.rollout.spec import RolloutSpec

BUILT_IN = frozenset({ERRORS, SLOW})


def check(spec: RolloutSpec, bounds_ms: Sequence[float], who: str, prometheus: Prometheus | None) -> None:
    """Raise UserError for a metric that promotion would wait for in vain, and for a limit that `who` does not count."""
    if spec.slow_ms not in bounds_ms:
        raise UserError(
            f"slowMs {spec.slow_ms:g} is no bound of {who}'s histograms; use one of "
            f"{', '.join(f'{bound:g}' for bound in bounds_ms if 5 <= bound <= 5000)}"
        )
    if spec.slices:
        raise UserError(f"slices of {spec.slices[0].metric!r}: {who} counts no groups; leave them out")
    if AGREEMENT in spec.sizes:
        raise UserError(
            f"metric {AGREEMENT!r}: {who} compares no answers, and mirroring would wait for it; leave it out"
        )
    for metric in spec.metrics:
        if isinstance(metric, Compared) and metric.name not in BUILT_IN:
            _check_own(metric, who, prometheus)


def _check_own(metric: Compared, who: str, prometheus: Prometheus | None) -> None:
    asked = metric.query is not None and metric.query.language == "promql"
    if asked and prometheus is None:
        raise UserError(f"metric {metric.name!r} has a PromQL query; say spec.target.stats, a Prometheus")
    if not (asked or metric.guard):
        raise UserError(
            f"metric {metric.name!r} is not counted by {who}, and promotion would wait for it: give "
            "it a PromQL query, or guard: true"
        )


def queried(prometheus: Prometheus | None, spec: RolloutSpec, stamp: float) -> Iterator[Reading]:
    """Counts of the metrics with a query: labels other than `arm` tell sources apart."""
    for metric in spec.metrics:
        if prometheus is None or not isinstance(metric, Compared) or metric.query is None:
            continue
        bad = {_by(labels): value for labels, value in prometheus.query(metric.query.bad)}
        for labels, total in prometheus.query(metric.query.total):
            arm, source = _by(labels)
            wrong = min(int(bad.get((arm, source), 0)), int(total))
            counts = {metric.name: (wrong, int(total) - wrong)}
            if arm == "stable" or arm == "candidate":
                yield Reading(source=f"{metric.name}/{source}", arm=arm, stamp=stamp, counts=counts)


def _by(labels: dict[str, str]) -> tuple[str, str]:
    rest = ",".join(f"{key}={value}" for key, value in sorted(labels.items()) if key not in {"arm", "__name__"})
    return labels.get("arm", ""), rest
