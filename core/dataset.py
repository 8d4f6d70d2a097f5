"""The contract of a dataset: an immutable table of samples, named by the digest of its content.

A dataset folder holds `manifest.jsonl` (one `Sample` a line, in order of `id`) and `dataset.json` (`DatasetInfo`); the
images are blobs of the object store, named by the SHA-256 of the stored copy. `ingest` writes the first one, `split`
the final one.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

from core.config import Config, canonical_json
from core.errors import PermanentError, UserError, nearest
from core.files import sha256_bytes, write_atomic

Split = Literal["train", "validation", "test", "final_eval"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "final_eval")


def side_of(name: str) -> Split:
    """The side called `name`; raises UserError when there is none."""
    if name not in SPLITS:
        raise UserError(f"unknown side {name!r}; {nearest(name, SPLITS)}")
    return name


class Sample(Config):
    """One row: an image and what is known of it."""

    id: str
    """The path below the source, as the user wrote it; unique in the dataset."""
    sha256: str
    """Digest of the stored copy (metadata stripped), the blob's name in the object store."""
    label: str
    group: str
    """What must stay on one side of a split: a pill, a session, a patient. A sample without one is its own group."""
    split: Split | None = None
    side: str | None = None
    taken_at: datetime | None = None
    width: int
    """Pixels, after the orientation was applied."""
    height: int
    dhash: str
    """64-bit difference hash, 16 hex digits: near-duplicates differ in few bits."""


class DatasetInfo(Config):
    """What is said about the whole table."""

    workload: str
    digest: str
    """SHA-256 of `manifest.jsonl`: names the dataset."""
    rows: int
    classes: dict[str, int]
    """Rows of each label, in sorted order: the index of a label in this order is its class number."""
    image_size: int
    """Side, pixels, to train at when the recipe does not say: from the profile of the images."""
    synthetic: bool
    """True when the images were rendered, not photographed; the release card repeats it (D10)."""
    source: str
    """The name of the folder or manifest that was ingested (not its path)."""
    quarantined: int = 0
    """Rows of the source that were refused; their reasons are in the ingest report."""


class Dataset:
    """A dataset folder, read."""

    def __init__(self, folder: Path, info: DatasetInfo, samples: list[Sample]) -> None:
        self.folder = folder
        self.info = info
        self.samples = samples

    @classmethod
    def read(cls, folder: Path) -> "Dataset":
        """The dataset in `folder`; raises PermanentError when the table does not match its digest."""
        info = DatasetInfo.from_file(folder / "dataset.json")
        content = (folder / "manifest.jsonl").read_bytes()
        if sha256_bytes(content) != info.digest:
            raise PermanentError(f"dataset {info.digest[:12]}: manifest.jsonl was changed after it was written")
        return cls(folder, info, [Sample.model_validate_json(line) for line in content.splitlines()])

    @classmethod
    def write(cls, folder: Path, samples: Iterable[Sample], **info: object) -> "Dataset":
        """Write the table and its description (`info`: the fields of DatasetInfo that do not follow from the rows)."""
        rows = sorted(samples, key=lambda sample: sample.id)
        content = "".join(canonical_json(row.model_dump(mode="json")) + "\n" for row in rows).encode()
        counts = Counter(row.label for row in rows)
        described = DatasetInfo.model_validate(
            {"digest": sha256_bytes(content), "rows": len(rows), "classes": dict(sorted(counts.items())), **info}
        )
        write_atomic(folder / "manifest.jsonl", content)
        write_atomic(folder / "dataset.json", described.model_dump_json(indent=2))
        return cls(folder, described, rows)

    @property
    def labels(self) -> list[str]:
        """Class names; a class's number is its index here."""
        return list(self.info.classes)

    def of(self, split: Split) -> Iterator[Sample]:
        """The samples of one split, in order of id."""
        return (sample for sample in self.samples if sample.split == split)
