"""May this model become a candidate? Reads the ladder of the workload's SLO; pure."""

from components.evaluate.report import EvaluationReport
from core.errors import UserError
from core.slo import Slo
from core.verdict import Outcome, Verdict, overall

LEAST_ROWS = 30
"""Fewer rows say nothing: 29 right of 29 are still compatible with an accuracy of 0.90 (0.90^29 = 0.047)."""


def gate(report: EvaluationReport, slo: Slo) -> list[Verdict]:
    """One verdict for each limit of R02: accuracy, p95 latency, memory."""
    return [_accuracy(report, slo.accuracy.gate), _latency(report, slo.latency.p95_ms), _memory(report, slo.memory_mb)]


def _accuracy(report: EvaluationReport, limit: float) -> Verdict:
    found = report.accuracy
    reason = (
        f"{found.value:.3f} (95 % interval {found.low:.3f} to {found.high:.3f}) on {report.rows} images "
        f"of {report.groups} groups, side {report.split}"
    )
    outcome = Outcome.PASS if found.value >= limit else Outcome.FAIL
    if report.rows < LEAST_ROWS:
        outcome, reason = Outcome.INCONCLUSIVE, f"{report.rows} images are too few; {LEAST_ROWS} are needed"
    return Verdict(question=f"accuracy >= {limit:.2f}", outcome=outcome, reason=reason, value=found.value, limit=limit)


def _latency(report: EvaluationReport, limit: float) -> Verdict:
    found = report.latency
    return _at_most("latency p95", found.p95_ms, limit, "ms", f"over {found.requests} single requests to Triton")


def _memory(report: EvaluationReport, limit: float) -> Verdict:
    return _at_most("memory", report.memory_mb, limit, "MiB", "of Triton and its model processes")


def _at_most(name: str, value: float, limit: float, unit: str, where: str) -> Verdict:
    outcome = Outcome.PASS if value <= limit else Outcome.FAIL
    question, reason = f"{name} <= {limit:.0f} {unit}", f"{value:.1f} {unit} {where}"
    return Verdict(question=question, outcome=outcome, reason=reason, value=value, limit=limit)


def refuse_unless_passed(verdicts: list[Verdict]) -> None:
    """Raise UserError with what did not pass and why; the run ends, nothing is registered, everything is kept."""
    if overall(verdicts) is Outcome.PASS:
        return
    missed = "; ".join(f"{v.question}: {v.outcome}, {v.reason}" for v in verdicts if v.outcome is not Outcome.PASS)
    raise UserError(f"the model may not become a candidate: {missed}. Nothing was registered; the run keeps everything")
