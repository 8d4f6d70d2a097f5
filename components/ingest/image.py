"""One image of the source: read, probed, really decoded, stored without metadata. A bad one is an answer, no error."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.ingest.report import Quarantined
from components.ingest.strip import Change, stored_copy
from core.config import Config
from core.files import sha256_bytes
from core.objects import Store

MAX_BYTES = 256 * 2**20
"""Of one file: more than 40 megapixels need in any format that is read, and less than a worker's memory."""

HASH_SIDE = 128
"""Pixels of the longer side, at least, that a JPEG is decoded to for its difference hash of 9 x 8."""


class Stored(Config):
    """A good image: what the dataset needs to know of it."""

    path: str
    sha256: str
    """Of the stored copy."""
    original: str
    """SHA-256 of the file as it lies in the source."""
    width: int
    height: int
    dhash: str
    change: Change
    bytes_read: int
    bytes_stored: int


Outcome = Stored | Quarantined


@dataclass(frozen=True)
class Examiner:
    """Examines images below `root` with a workload's `preprocess` and `features`; one per process."""

    root: Path
    store: Store
    preprocess: Any
    features: Any

    def examine(self, path: str) -> Outcome:
        """What became of the image at `path` (relative to `root`). Raises OSError when the store cannot be written."""
        try:
            content = read(self.root, path)
            return self._store(path, content)
        except Refused as refused:
            return Quarantined(path=path, code=refused.code, reason=refused.reason)
        except self.preprocess.BadImage as bad:
            return Quarantined(path=path, code=bad.code, reason=bad.reason)

    def _store(self, path: str, content: bytes) -> Stored:
        header = self.preprocess.check(self.preprocess.probe(content))
        copy, change = stored_copy(content, header, self.preprocess.decode_full)
        pixels = self.preprocess.decode_full(copy, HASH_SIDE)
        shape = self.preprocess.probe(copy)
        return Stored(
            path=path,
            sha256=self.store.put_blob(copy),
            original=sha256_bytes(content),
            width=shape.width,
            height=shape.height,
            dhash=f"{int(self.features.dhash64(pixels)):016x}",
            change=change,
            bytes_read=len(content),
            bytes_stored=len(copy),
        )


class Refused(ValueError):  # noqa: N818 - a finding about the data
    """A file that is not opened, or cannot be read."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def read(root: Path, path: str) -> bytes:
    """The bytes of a regular file that really lies below `root` (resolved); raises Refused."""
    place = _resolved(root, path)
    try:
        found = place.stat()
        if not stat.S_ISREG(found.st_mode):
            raise Refused("not_a_file", "is no regular file")
        if found.st_size > MAX_BYTES:
            raise Refused("too_large", f"{found.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        return place.read_bytes()
    except FileNotFoundError as error:
        raise Refused("missing", "there is no such file") from error
    except OSError as error:
        raise Refused("unreadable", f"cannot be read: {os.strerror(error.errno or 0)}") from error


def _resolved(root: Path, path: str) -> Path:
    try:
        place = (root / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a null byte
        raise Refused("unreadable", f"the path cannot be followed: {error}") from error
    if not place.is_relative_to(root):
        raise Refused("outside", "leads out of the source's folder")
    return place
