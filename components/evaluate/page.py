"""An evaluation for people and dashboards: its scalars, and one HTML page with its plots."""

from html import escape
from pathlib import Path

from components.evaluate.report import EvaluationReport


def scalars(report: EvaluationReport) -> dict[str, float]:
    """The numbers of a dashboard."""
    found = {
        "accuracy": report.accuracy.value,
        "accuracy_low": report.accuracy.low,
        "accuracy_high": report.accuracy.high,
        "top5": report.top5.value,
        "mean_average_precision": report.mean_average_precision.value,
        "macro_f1": report.macro_f1,
        "ece_before": report.ece_before,
        "ece_after": report.ece_after,
        "answered": report.answered,
        "latency_p95_ms": report.latency.p95_ms,
        "latency_p99_ms": report.latency.p99_ms,
        "memory_mb": report.memory_mb,
    }
    return found if report.auc is None else {**found, "auc": report.auc}


def page(report: EvaluationReport, plots: Path) -> str:
    """Self-contained HTML."""
    rows = "".join(f"<tr><td>{name}</td><td>{value:.4g}</td></tr>" for name, value in scalars(report).items())
    pictures = "".join(
        path.read_text().partition("<svg")[1:][0] + path.read_text().partition("<svg")[2]
        for path in sorted(plots.glob("*.svg"))
    )
    title = f"{escape(report.workload)}: {report.rows} images of the side {report.split}"
    return f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><table>{rows}</table>{pictures}"
