"""The KFP step `evaluate`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def evaluate(
    store: str,
    cache: str,
    split: str,
    parts: Input[Dataset],
    exported: Input[Model],
    evaluated: Output[Artifact],
    metrics: Output[Metrics],
    confusion: Output[ClassificationMetrics],
    page: Output[HTML],
) -> None:
    """Measure the exported model on the real Triton: accuracy, calibration, latency, memory.

    Args:
        store: URI of the object store that keeps the images.
        cache: Folder for what can be made again.
        split: The side to measure on: test, or final_eval at promotion.
        parts: The dataset with its sides.
        exported: The Triton repository.
        evaluated: Folder with metrics.json and plots.
        metrics: The numbers.
        confusion: The confusion matrix.
        page: The plots.
    """
    from pathlib import Path

    from components.evaluate.evaluate import evaluate
    from components.evaluate.page import page as html
    from components.evaluate.page import scalars
    from core.dataset import side_of
    from core.objects import Store
    from core.step import reporting_errors

    with reporting_errors("evaluate"):
        repository = Path(exported.path, "repository")
        side = side_of(split)
        report = evaluate(Path(parts.path), repository, Store(store), Path(evaluated.path), Path(cache), side)
        for name, value in scalars(report).items():
            metrics.log_metric(name, value)
        if report.confusion:
            confusion.log_confusion_matrix(
                [row.label for row in report.classes], [list(row) for row in report.confusion]
            )
        Path(page.path).write_text(html(report, Path(evaluated.path, "plots")))
