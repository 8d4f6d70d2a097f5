"""One small tree of errors; whether a retry can help is in the type, never in the text.

TitrateError
├── UserError        the user must change something; the message says what
│   └── DataError    the data must change; `rows` lists what is wrong with which row
├── PermanentError   a retry cannot help (corrupt release, failed verification)
└── TemporaryError   a retry after `delay` seconds may help (engine starting, store locked)

The command line prints the message alone and exits with `exit_code`; a traceback means a defect in Titrate.
"""

import difflib
from collections.abc import Iterable


class TitrateError(Exception):
    """Base of all errors that Titrate raises on purpose."""

    exit_code = 1


class UserError(TitrateError):
    """Something the user can put right: the message names the object, the value and the way out."""

    exit_code = 2


class DataError(UserError):
    """The data cannot be used as it is; `rows` holds `(name, reason)` of what is wrong."""

    exit_code = 3

    def __init__(self, message: str, rows: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.rows = list(rows)


class PermanentError(TitrateError):
    """Trying again cannot help."""

    exit_code = 4


class TemporaryError(TitrateError):
    """Trying again after `delay` seconds may help."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h

    def __init__(self, message: str, delay: float = 1.0) -> None:
        super().__init__(message)
        self.delay = delay


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the closest known word if there is one, and all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names) or '(none)'}"
