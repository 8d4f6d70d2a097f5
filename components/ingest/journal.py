"""What a killed ingest had finished, so that the same call does not decode it again.

One line an image, appended as it is done; a torn last line is worth nothing and costs one image. An entry counts while
the file has the size and time it had, and the store still holds its copy.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from components.ingest.image import Stored
from core.objects import Store


class Journal:
    """The finished images of one source and store."""

    def __init__(self, path: Path, root: Path, store: Store) -> None:
        self._path = path
        self._root = root
        self._store = store
        self._known = self._read()
        self._file = path.open("a", buffering=1)  # a line at a time: a kill loses no finished one
        self._file.write("\n")  # ends a torn line

    @classmethod
    @contextmanager
    def open(cls, path: Path, root: Path, store: Store) -> Iterator[Self]:
        """The journal at `path`, which stays when the block fails and goes when it ends well."""
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = cls(path, root, store)
        try:
            yield journal
            path.unlink()
        finally:
            journal._file.close()

    def finished(self, path: str) -> Stored | None:
        """The outcome of an image that is done and unchanged."""
        entry = self._known.get(path)
        if entry is None or entry[0] != self._stamp(path):
            return None
        return entry[1] if self._store.has_blob(entry[1].sha256) else None

    def note(self, stored: Stored) -> None:
        """Write down one finished image."""
        self._file.write(json.dumps([self._stamp(stored.path), stored.model_dump()]) + "\n")

    def _stamp(self, path: str) -> list[int]:
        """Size, bytes, and time of change, nanoseconds."""
        try:
            found = (self._root / path).stat()
        except OSError:
            return []
        return [found.st_size, found.st_mtime_ns]

    def _read(self) -> dict[str, tuple[list[int], Stored]]:
        known: dict[str, tuple[list[int], Stored]] = {}
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        for line in lines:
            try:
                stamp, stored = json.loads(line)
            except ValueError:  # torn by the kill
                continue
            known[stored["path"]] = (stamp, Stored.model_validate(stored))
        return known
