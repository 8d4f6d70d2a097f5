"""The KFP step `ingest`."""

from kfp import dsl
from kfp.dsl import Dataset, Output

from core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def ingest(workload: str, source: str, store: str, work: str, dataset: Output[Dataset]) -> None:
    """Read, check and store every image of a source, without metadata; bad ones are quarantined with their reason.

    Args:
        workload: Name of the workload, a folder of `workloads/`.
        source: Folder of class-named sub-folders, or a CSV or JSONL manifest.
        store: URI of the object store that keeps the images.
        work: Folder that outlives the step: what a killed step had finished is taken from there.
        dataset: Folder with the dataset's table, quarantine.jsonl and ingest.json.
    """
    from pathlib import Path

    from components.ingest.ingest import ingest
    from core.objects import Store
    from core.step import reporting_errors

    with reporting_errors("ingest"):
        report = ingest(workload, Path(source), Store(store), Path(dataset.path), Path(work))
        dataset.metadata.update(report.model_dump(include={"dataset", "source", "rows", "good", "quarantined"}))
