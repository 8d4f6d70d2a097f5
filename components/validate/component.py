"""The KFP step `validate`."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Output

from core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def validate(
    store: str,
    good_share: float,
    min_images: int,
    dataset: Input[Dataset],
    page: Output[HTML],
    metrics: Output[Metrics],
) -> None:
    """Judge whether the data can be learned from, and show what it looks like; a bad answer ends the run.

    Args:
        store: URI of the object store that keeps the images.
        good_share: Least share of the source's rows that must be good, 0 to 1.
        min_images: Least number of good images of each class.
        dataset: What `ingest` made.
        page: The report for people; report.json lies beside it.
        metrics: Counts of rows, classes, duplicates and conflicts.
    """
    from pathlib import Path

    from components.validate.report import Limits
    from components.validate.validate import validate
    from core.objects import Store
    from core.step import reporting_errors

    with reporting_errors("validate"):
        folder = Path(page.path)
        page.path = str(folder / "report.html")
        limits = Limits(good_share=good_share, min_images=min_images)
        report = validate(Path(dataset.path), Store(store), folder, limits)
        for name, value in report.counts().items():
            metrics.log_metric(name, value)
