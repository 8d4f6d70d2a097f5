"""The dataset of a sweep: the steps ingest, validate and split of every run, done once for all trials."""

from pathlib import Path

from components.ingest.ingest import ingest
from components.split.split import split
from components.validate.validate import validate
from core.objects import Store

PARTS = "parts"


def prepare(workload: str, source: Path, store: Store, work: Path, folder: Path) -> Path:
    """The folder of the dataset with its sides, made from `source` below `folder` unless it is there already.

    Raises DataError when the data cannot be learned from, as the steps do.
    """
    parts = folder / PARTS
    if not parts.exists():
        ingest(workload, source, store, folder / "dataset", work)
        validate(folder / "dataset", store, folder / "validation")
        split(folder / "dataset", parts)
    return parts
