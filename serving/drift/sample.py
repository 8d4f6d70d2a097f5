"""What detectors compare: rows of named numbers with the class that was answered, of one release.

The reference comes from the release's own folder and a window from its events; both have the same columns, and a
window of another release is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from core import reference
from core.errors import PermanentError, UserError
from core.events import OK, Event
from core.release import sealed_digest

Values = NDArray[np.float64]
Classes = NDArray[np.int64]
Answer = tuple[Sequence[float] | None, Mapping[str, float], str | None]
"""(embedding, image statistics, class)."""
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
    together: float = 1.0
    """Rows of a reference that say the same, on average (`core.reference.together`)."""

    def rows_from(self, first: int) -> Self:
        """The rows from place `first` on."""
        return self._replace(values=self.values[first:], predictions=self.predictions[first:])

    def complete(self) -> Self:
        """The rows without a number that is missing."""
        whole = np.isfinite(self.values).all(axis=1)
        return self._replace(values=self.values[whole], predictions=self.predictions[whole])


def of_release(folder: Path, digest: str) -> Sample:
    """The reference of release `digest` in `folder`; raises PermanentError if the folder holds another release.

    `core.release.verify` has checked the files before; here only the name is compared.
    """
    if (found := sealed_digest(folder)) != digest:
        raise PermanentError(f"{str(folder)!r} holds release {found[:12]!r}, not {digest[:12]!r}")
    table = reference.read(folder / reference.FOLDER)
    names = tuple(f"embedding_{place}" for place in range(table.description.embedding_size))
    values = np.hstack([table.embeddings, table.statistics]).astype(float)
    about = table.description
    return Sample(digest, names + about.statistics, values, table.predictions, about.labels, about.together)


def of_events(events: Sequence[Event], like: Sample) -> Sample:
    """The answered events as a window with the columns of `like`. Raises UserError for events of another release."""
    answered = [event for event in events if event.outcome == OK]
    for event in answered:
        if event.release != like.release:
            raise UserError(
                f"event {event.prediction_id!r} is of release {event.release[:12]!r}, the reference of "
                f"{like.release[:12]!r}; compare a release with its own reference"
            )
    return _window([(event.embedding, event.image, event.label) for event in answered], like)


def of_stored(rows: Iterable[tuple[bytes | None, Mapping[str, float], str | None]], like: Sample) -> Sample:
    """Answered events of the release of `like`, as `serving/feedback` keeps them: (embedding, image, label)."""
    return _window([(np.frombuffer(row[0] or b"", "<f4").tolist(), *row[1:]) for row in rows], like)


def _window(answered: Sequence[Answer], like: Sample) -> Sample:
    """NaN where an event lacks a number, UNKNOWN where the reference lacks its class."""
    places = {name: place for place, name in enumerate(like.classes)}
    size = sum(name.startswith("embedding_") for name in like.columns)
    rows = [
        [*_embedding(embedding, size), *(image.get(name, np.nan) for name in like.columns[size:])]
        for embedding, image, _ in answered
    ]
    values = np.array(rows, float).reshape(len(rows), len(like.columns))
    predictions = np.array([places.get(label or "", UNKNOWN) for *_, label in answered], dtype=np.int64)
    return Sample(like.release, like.columns, values, predictions, like.classes)


def _embedding(found: Sequence[float] | None, size: int) -> Sequence[float]:
    return found if found is not None and len(found) == size else (np.nan,) * size
