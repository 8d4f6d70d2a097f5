"""The contract of a drift reference: what network and features say of inputs that the network was not trained on.

`reference/` of a release holds, row by row and in the same order,
    embeddings.npy   float32 [n, d]   of the served network
    statistics.npy   float32 [n, k]   of the workload's features, named in reference.json
    predictions.npy  int64 [n]        class numbers
and `reference.json` (`Reference`). `components/export` writes them, `serving/drift` reads them.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.config import Config
from core.errors import PermanentError
from core.files import write_atomic

VERSION = 1
FOLDER, DESCRIPTION = "reference", "reference.json"
EMBEDDINGS, STATISTICS, PREDICTIONS = "embeddings.npy", "statistics.npy", "predictions.npy"


class Reference(Config):
    """`reference.json`."""

    version: int
    """Of this layout and of the features; drift between two versions is not measured."""
    dataset: str
    """Digest of the dataset whose validation rows these are."""
    samples: tuple[str, ...]
    """Ids of the rows, in order."""
    labels: tuple[str, ...]
    """Names of the class numbers."""
    statistics: tuple[str, ...]
    """Names of the columns of statistics.npy."""
    embedding_size: int
    together: float = 1.0
    """Rows that were taken together, as of one sitting: of the group of a row, on average. They say the same."""


class Table(NamedTuple):
    """A reference in memory; the arrays have one row per sample."""

    description: Reference
    embeddings: NDArray[np.float32]
    """[n, d]"""
    statistics: NDArray[np.float32]
    """[n, k]"""
    predictions: NDArray[np.int64]
    """[n]"""


def write(
    folder: Path,
    description: Reference,
    embeddings: NDArray[np.float32],
    statistics: NDArray[np.float32],
    predictions: NDArray[np.int64],
) -> None:
    """Write the four files into `folder`."""
    arrays: dict[str, NDArray[Any]] = {EMBEDDINGS: embeddings, STATISTICS: statistics, PREDICTIONS: predictions}
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_atomic(folder / name, buffer.getvalue())
    write_atomic(folder / DESCRIPTION, description.model_dump_json(indent=2))


def read(folder: Path) -> Table:
    """The reference in `folder`. Raises PermanentError for a file that is missing or does not fit `reference.json`."""
    try:
        description = Reference.from_json((folder / DESCRIPTION).read_text(), str(folder / DESCRIPTION))
        arrays = [np.load(folder / name, allow_pickle=False) for name in (EMBEDDINGS, STATISTICS, PREDICTIONS)]
    except (OSError, ValueError) as error:
        raise PermanentError(f"no drift reference in {str(folder)!r}: {error}; export the release again") from error
    if description.version != VERSION:
        raise PermanentError(
            f"drift reference {str(folder)!r} has version {description.version!r}, this code reads {VERSION!r}; "
            "export the release again"
        )
    rows = len(description.samples)
    shapes = [(rows, description.embedding_size), (rows, len(description.statistics)), (rows,)]
    for name, array, shape in zip((EMBEDDINGS, STATISTICS, PREDICTIONS), arrays, shapes, strict=True):
        if array.shape != shape:
            raise PermanentError(f"{str(folder / name)!r} has shape {array.shape!r} instead of {shape!r}")
    return Table(description, *arrays)


def together(groups: Sequence[str]) -> float:
    """Size of the group of a row, on average over the rows: the loss of information where a group says one thing.

    The design effect of clusters whose members are all alike (Kish 1965, 8.2).
    """
    sizes = np.unique(np.asarray(groups), return_counts=True)[1]
    return max(1.0, float((sizes**2).sum() / max(1, sizes.sum())))


def rows_of(wanted: Sequence[str], every: Sequence[str]) -> NDArray[np.int64]:
    """The places of `wanted` in `every`."""
    place = {name: row for row, name in enumerate(every)}
    return np.array([place[name] for name in wanted], dtype=np.int64)
