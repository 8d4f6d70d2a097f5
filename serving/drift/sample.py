"""What detectors compare: rows of named numbers with the class that was answered, of one release.

The reference comes from the release's own folder and a window from its events; both have the same columns, and a
window of another release is refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core import reference
from core.errors import PermanentError, UserError
from core.events import OK, Event
from core.release import sealed_digest

Values = NDArray[np.float64]
Classes = NDArray[np.int64]
UNKNOWN = -1
"""The class number of an answer that the reference does not know."""


class Sample(NamedTuple):
    """One row per answered item."""

    release: str
    """Digest of the release that answered."""
    columns: tuple[str, ...]
    """`embedding_0` and so on, then the image statistics."""
    values: Values
    """float64 [n, k]; NaN where an event lacks the number."""
    predictions: Classes
    """int64 [n]: places in `classes`, or UNKNOWN."""
    classes: tuple[str, ...]


def of_release(folder: Path, digest: str) -> Sample:
    """The reference of release `digest` in `folder`; raises PermanentError if the folder holds another release.

    `core.release.verify` has checked the files before; here only the name is compared.
    """
    if (found := sealed_digest(folder)) != digest:
        raise PermanentError(f"{str(folder)!r} holds release {found[:12]!r}, not {digest[:12]!r}")
    table = reference.read(folder / reference.FOLDER)
    names = tuple(f"embedding_{place}" for place in range(table.description.embedding_size))
    values = np.hstack([table.embeddings, table.statistics]).astype(float)
    return Sample(digest, names + table.description.statistics, values, table.predictions, table.description.labels)


def of_events(events: Sequence[Event], like: Sample) -> Sample:
    """The answered events as a window with the columns of `like`. Raises UserError for events of another release."""
    answered = [event for event in events if event.outcome == OK]
    for event in answered:
        if event.release != like.release:
            raise UserError(
                f"event {event.prediction_id!r} is of release {event.release[:12]!r}, the reference of "
                f"{like.release[:12]!r}; compare a release with its own reference"
            )
    places = {name: place for place, name in enumerate(like.classes)}
    size = sum(name.startswith("embedding_") for name in like.columns)
    rows = [_row(event, size, like.columns[size:]) for event in answered]
    values = np.array(rows, float).reshape(len(rows), len(like.columns))
    predictions = np.array([places.get(event.label or "", UNKNOWN) for event in answered], dtype=np.int64)
    return Sample(like.release, like.columns, values, predictions, like.classes)


def _row(event: Event, size: int, statistics: Sequence[str]) -> list[float]:
    embedding = event.embedding if event.embedding is not None and len(event.embedding) == size else (np.nan,) * size
    return [*embedding, *(event.image.get(name, np.nan) for name in statistics)]
