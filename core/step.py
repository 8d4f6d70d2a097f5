"""How the error of a step reaches the user: a step runs in a process of its own, and KFP reports only that it failed.

The body of every `component.py` runs inside `reporting_errors`; the pipeline names the file and prints what is in it.
"""

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from core import errors
from core.errors import DataError, TitrateError, UserError
from core.files import write_atomic
from core.process import end_with

_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


@contextlib.contextmanager
def reporting_errors(step: str) -> Iterator[None]:
    """Run a step's body; a TitrateError is printed, written as JSON to the file TITRATE_ERROR_FILE, and raised again.

    The JSON is `{"type", "message", "rows", "step"}`. A full disk or a missing permission becomes a UserError. When
    TITRATE_PARENT is set (the laptop), the process ends with the one that started it.
    """
    if parent := os.environ.get("TITRATE_PARENT"):
        end_with(int(parent))
    try:
        yield
    except TitrateError as error:
        _report(step, error)
        raise
    except OSError as error:
        wrong = storage_error(error)
        if wrong is None:
            raise
        _report(step, wrong)
        raise wrong from error


def storage_error(error: OSError) -> UserError | None:
    """The UserError for a full disk, a full quota or a missing permission; None for any other OSError."""
    if error.errno not in _STORAGE:
        return None
    place = f" {os.fsdecode(error.filename)!r}" if error.filename else ""
    return UserError(
        f"cannot use the storage{place}: {error.strerror}; make room or grant access there, "
        "or choose another folder with --home"
    )


def _report(step: str, error: TitrateError) -> None:
    print(f"error: {error}", file=sys.stderr, flush=True)
    target = os.environ.get("TITRATE_ERROR_FILE")
    if target:
        rows = error.rows if isinstance(error, DataError) else []
        record = {"type": type(error).__name__, "message": str(error), "rows": rows, "step": step}
        write_atomic(Path(target), json.dumps(record, ensure_ascii=False, indent=1))


def reported(target: Path) -> TitrateError | None:
    """The error that a step wrote to the file `target`; none when it wrote none."""
    if not target.exists():
        return None
    found = json.loads(target.read_text())
    kind: type[TitrateError] = getattr(errors, found["type"])
    return DataError(found["message"], map(tuple, found["rows"])) if kind is DataError else kind(found["message"])
