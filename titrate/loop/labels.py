"""`titrate labels import FILE`: what predictions should have been, from a CSV file of any length, in batches.

The feedback service says of each row what became of it; importing a file twice is harmless.
"""

import csv
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import TemporaryError, UserError
from core.home import Home
from titrate.stack.ports import home_ports
from titrate.stack.state import read_state

BATCH = 5_000
COLUMNS = ("prediction_id", "label", "at", "source")
"""Of the file; the first two are needed."""
REFUSED = ("contradicts", "future", "invalid")
SHOWN = 20


class Imported(NamedTuple):
    """What became of a file."""

    results: Counter[str]
    """Rows by result: stored, waiting, duplicate, contradicts, future, invalid."""
    refused: list[tuple[str, str]]
    """The first rows that were not taken: (line, reason)."""


def import_labels(home: Home, file: Path) -> Imported:
    """Send all rows. Raises UserError for a file that is none or a stack that is down, TemporaryError."""
    import httpx

    if read_state(home) is None:
        raise UserError("the stack is not running, so nobody takes labels; `titrate stack up` starts it")
    url = f"http://127.0.0.1:{home_ports(home).feedback}/labels"
    results: Counter[str] = Counter()
    refused: list[tuple[str, str]] = []
    with httpx.Client(timeout=60, trust_env=False) as client:
        for batch in _batches(_rows(file)):
            try:
                answer = client.post(url, json={"labels": [row for _, row in batch]})
            except httpx.TransportError as error:
                raise TemporaryError(f"the feedback service does not answer: {error}; import it again") from error
            if not answer.is_success:
                raise TemporaryError(f"the feedback service answers {answer.status_code}: {answer.text.strip()}")
            for (line, row), found in zip(batch, answer.json()["rows"], strict=True):
                results[found["result"]] += 1
                if found["result"] in REFUSED and len(refused) < SHOWN:
                    said = found["reason"] or f"{found['result']}: {row['label']!r} for {row['prediction_id']!r}"
                    refused.append((f"line {line}", said))
    return Imported(results, refused)


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, the columns that are filled)."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            names = reader.fieldnames or []
            if missing := [name for name in COLUMNS[:2] if name not in names]:
                names_all = f"{', '.join(COLUMNS)} (the last two may be left out)"
                raise UserError(f"{str(file)!r} has no column {missing[0]!r}; its first line must name {names_all}")
            for row in reader:
                yield reader.line_num, {"source": "csv"} | {name: row[name] for name in COLUMNS if row.get(name)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read the labels {str(file)!r}: {error}") from error


def _batches(rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    while batch := list(itertools.islice(rows, BATCH)):
        yield batch
