"""The KFP step `split`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Output

from core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def split(dataset: Input[Dataset], parts: Output[Dataset], metrics: Output[Metrics]) -> None:
    """Give each group of images one side: train, validation, test or final_eval; always the same one.

    Args:
        dataset: What `ingest` made and `validate` passed.
        parts: Folder with the final dataset's table and split.json.
        metrics: Rows on each side.
    """
    import json
    from pathlib import Path

    from components.split.split import split
    from core.step import reporting_errors

    with reporting_errors("split"):
        final = split(Path(dataset.path), Path(parts.path))
        parts.metadata.update(final.info.model_dump(include={"digest", "rows", "source", "synthetic"}))
        for name, rows in json.loads(Path(parts.path, "split.json").read_text())["rows"].items():
            metrics.log_metric(name, rows)
