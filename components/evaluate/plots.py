"""Pictures of an evaluation, as SVG: confusion matrix, reliability diagram, F1 of each class."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.evaluate.report import EvaluationReport
from workloads.contract import load

SHOWN = 40
"""Classes of the per-class chart: the weakest ones."""


def write_plots(
    folder: Path, report: EvaluationReport, confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> None:
    """Write `reliability.svg`, `classes.svg`, and `confusion.svg` where the matrix is kept."""
    import matplotlib

    matplotlib.use("svg")
    folder.mkdir(parents=True)
    _reliability(folder / "reliability.svg", report, confidence, right)
    _classes(folder / "classes.svg", report)
    if report.confusion:
        _confusion(folder / "confusion.svg", report)


def _save(path: Path, figure) -> None:  # type: ignore[no-untyped-def]  # matplotlib is imported when needed
    import matplotlib.pyplot as plt

    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def _reliability(
    path: Path, report: EvaluationReport, confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> None:
    import matplotlib.pyplot as plt

    mean, accuracy, rows = load(report.workload).metrics.reliability(confidence, right)
    filled = rows > 0
    figure, axes = plt.subplots(figsize=(4, 4))
    axes.plot([0, 1], [0, 1], color="#9aa5b1", linewidth=1)
    axes.scatter(mean[filled], accuracy[filled], s=10 + 90 * rows[filled] / rows.max(), color="#2f6fb3")
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title(f"calibration error {report.ece_before:.3f} before, {report.ece_after:.3f} after", fontsize=9)
    _save(path, figure)


def _classes(path: Path, report: EvaluationReport) -> None:
    import matplotlib.pyplot as plt

    weakest = sorted((row for row in report.classes if row.rows), key=lambda row: row.f1)[:SHOWN][::-1]
    figure, axes = plt.subplots(figsize=(5, 0.6 + 0.22 * len(weakest)))
    axes.barh([row.label for row in weakest], [row.f1 for row in weakest], color="#2f6fb3")
    axes.set(xlim=(0, 1), xlabel="F1")
    axes.tick_params(labelsize=8)
    _save(path, figure)


def _confusion(path: Path, report: EvaluationReport) -> None:
    import matplotlib.pyplot as plt

    table = np.array(report.confusion, dtype=float)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    size = min(9.0, 2.5 + 0.28 * len(table))
    figure, axes = plt.subplots(figsize=(size, size))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="answer", ylabel="right label")
    if len(table) <= SHOWN:
        names = [row.label for row in report.classes]
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
    _save(path, figure)
