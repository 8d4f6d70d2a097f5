"""An append-only log in which each line carries the hash of the one before: a changed or missing line is found."""

import fcntl
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from core.config import canonical_json
from core.errors import PermanentError, TemporaryError
from core.files import sha256_bytes

GENESIS = "0" * 64
OWN = frozenset({"at", "kind", "previous"})
PATIENCE = 2.0
"""Seconds that a writer waits for another one, who holds the log for milliseconds: a rollback may wait behind it."""


def append(path: Path, kind: str, **facts: Any) -> dict[str, Any]:
    """Append one entry (JSON, fsynced) and return it; writers in several processes take turns.

    Raises TemporaryError while another process holds the log, OSError when it cannot be written; then nothing was.
    Raises ValueError for a fact that is called like one of the log's own: it would break the chain.
    """
    if taken := OWN & facts.keys():
        raise ValueError(f"a fact cannot be called {min(taken)!r}; the log's own are {', '.join(sorted(OWN))}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        _lock(file, path.name)
        last = _last_line(file)
        previous = sha256_bytes(last) if last else GENESIS
        entry = {"at": datetime.now(UTC).isoformat(), "kind": kind, "previous": previous, **facts}
        file.write(canonical_json(entry).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return entry


def _lock(file: BinaryIO, name: str) -> None:
    """Wait for the file's lock, which the kernel releases when its holder dies. Raises TemporaryError."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise TemporaryError(f"{name} is locked by another process for {PATIENCE:g} s") from error
        time.sleep(0.01)


def _last_line(file: BinaryIO) -> bytes:
    """The last complete line, without its end, found from the back: an append costs the same at any length.

    What a killed or failed append left behind it is cut off: it was never acknowledged.
    """
    end = file.seek(0, os.SEEK_END)
    tail, size = b"", 1024
    while tail.count(b"\n") < 2 and len(tail) < end:
        file.seek(max(0, end - size))
        tail, size = file.read(), size * 4
    whole = tail[: tail.rfind(b"\n") + 1]
    if len(whole) < len(tail):
        file.truncate(end - len(tail) + len(whole))
    return whole.rstrip(b"\n").rpartition(b"\n")[2]


def read(path: Path) -> list[dict[str, Any]]:
    """All complete entries, oldest first; raises PermanentError naming the first line that breaks the chain."""
    entries, previous = [], GENESIS
    content = path.read_bytes() if path.exists() else b""
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise PermanentError(f"{path.name}, line {number}: not JSON: {error}") from error
        if entry.get("previous") != previous:
            raise PermanentError(f"{path.name}, line {number}: the line before it was changed or removed")
        entries.append(entry)
        previous = sha256_bytes(line)
    return entries
