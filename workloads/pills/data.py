"""What the user has: a folder of class-named sub-folders, or a manifest. Only names are read here; ingest reads bytes.

A row that cannot be used is refused with its reason and goes on to the quarantine list; what makes the whole source
useless, or leads out of the folder the user named, is an error. Next: `components/ingest`.
"""

import csv
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from core.dataset import SPLITS, Split
from core.errors import DataError, UserError

MIN_CLASSES, MAX_CLASSES = 2, 10_000
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
MANIFESTS = ("manifest.csv", "manifest.jsonl")
MARKER = "dataset.json"
MAX_TEXT = 500  # characters of a label or group; a name, not an essay
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
FRONT = {"true": "front", "1": "front", "false": "back", "0": "back"}  # ePillID's is_front
CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})

Refusal = tuple[str, str]
"""The path of a row that cannot be used, and why."""


@dataclass(frozen=True)
class SourceRow:
    """One image that the user names. `path` is relative to the source's root, with `/`; unique in the source."""

    path: str
    label: str
    group: str | None = None
    side: str | None = None
    split: Split | None = None
    taken_at: datetime | None = None


@dataclass(frozen=True)
class Source:
    """All rows of a folder or manifest, in order of path, and `(path, reason)` of those that cannot be used."""

    root: Path
    name: str
    rows: tuple[SourceRow, ...]
    refused: tuple[Refusal, ...]
    synthetic: bool = False

    @property
    def labels(self) -> list[str]:
        """The class names, sorted."""
        return sorted({row.label for row in self.rows})


class _RowError(ValueError):
    """One row cannot be used; the message is the reason."""


def read_source(place: Path) -> Source:
    """The source at `place`: a folder, a folder with manifest.csv or manifest.jsonl, or such a file under any name.

    Raises UserError when there is nothing of that kind, DataError when what is there cannot be learned from.
    """
    try:
        return _read(place.resolve())
    except OSError as error:
        raise UserError(f"cannot read {str(error.filename or place)!r}: {error.strerror}") from error


def _read(place: Path) -> Source:
    if place.is_file():
        name = place.parent.name if place.name in MANIFESTS else place.stem
        return _checked(place.parent, name, _manifest_rows(place))
    if not place.is_dir():
        raise UserError(f"there is no folder or manifest {str(place)!r}")
    manifests = [place / name for name in MANIFESTS if (place / name).is_file()]
    if len(manifests) > 1:
        raise UserError(f"{str(place)!r} holds both {' and '.join(MANIFESTS)}: name the one to read")
    rows = _manifest_rows(manifests[0]) if manifests else _folder_rows(place)
    return _checked(place, place.name, rows)


def default_image_size(sizes: Iterable[tuple[int, int]]) -> int:
    """The side to train at, pixels: the median shorter side of the images `(width, height)`, 32 to 96, in steps of 8.

    32 is the least that ResNet's five halvings leave a pixel of; more than 96 is beyond two cores in minutes, so a
    recipe must ask for it. Raises DataError when there is no image.
    """
    shorter = sorted(min(size) for size in sizes)
    if not shorter:
        raise DataError("no image to take the size from")
    median = shorter[len(shorter) // 2]
    return min(96, max(32, 8 * round(median / 8)))


def _checked(root: Path, name: str, found: Iterator[SourceRow | Refusal]) -> Source:
    """The source of what was found; a path listed twice counts once. Raises DataError."""
    rows: dict[str, SourceRow] = {}
    refused: list[Refusal] = []
    for item in found:
        if isinstance(item, tuple):
            refused.append(item)
        elif item.path in rows:
            refused.append((item.path, f"listed before, as {rows[item.path].label!r}"))
        else:
            rows[item.path] = item
    ordered = tuple(sorted(rows.values(), key=lambda row: row.path))
    source = Source(root, name, ordered, tuple(sorted(refused)), _is_synthetic(root))
    _check_classes(source)
    return source


def _check_classes(source: Source) -> None:
    if not source.rows:
        what = "every row is refused" if source.refused else "it holds no jpg, png or webp"
        raise DataError(f"nothing to learn from in {source.name!r}: {what}{_first(source.refused)}", source.refused)
    labels = source.labels
    if len(labels) < MIN_CLASSES:
        inner = source.root / labels[0]
        hint = f"; if the folders in it are the classes, give {str(inner)!r}" if inner.is_dir() else ""
        raise DataError(f"{source.name!r} has one class, {labels[0]!r}: two or more are needed{hint}", source.refused)
    if len(labels) > MAX_CLASSES:
        raise DataError(f"{source.name!r} has {len(labels):,} classes; at most {MAX_CLASSES:,} can be learned")


def _is_synthetic(root: Path) -> bool:
    """Whether a renderer left its mark (`workloads/pills/render.py`)."""
    try:
        mark = json.loads((root / MARKER).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(mark, dict) and mark.get("synthetic") is True


def _folder_rows(root: Path) -> Iterator[SourceRow | Refusal]:
    """Each file below a class folder, whatever its name ends in (its bytes decide); the class is the first folder."""
    entries = [entry for entry in _entries(root) if entry.name != MARKER]
    folders = [entry for entry in entries if entry.is_dir()]
    if len(folders) > MAX_CLASSES:
        raise DataError(f"{str(root)!r} has {len(folders):,} folders; at most {MAX_CLASSES:,} classes can be learned")
    if not folders:
        raise DataError(
            f"{str(root)!r} holds {len(entries)} files, no class folders: expected CLASS/IMAGE or a manifest"
        )
    if {entry.name.lower() for entry in folders} <= SPLIT_FOLDERS:
        names = ", ".join(entry.name for entry in folders)
        raise DataError(
            f"the folders of {str(root)!r} ({names}) name splits, not classes: give one of them, or a manifest"
        )
    for name in _files(root, root):
        label = PurePosixPath(name).parts[0]
        row = _row_or_refusal(root, {"path": name, "label": label}, name)
        if label != name:
            yield row
        elif Path(name).suffix.lower() in SUFFIXES:
            yield _readable(name), "not in a class folder"


def _files(root: Path, folder: Path) -> Iterator[str]:
    """The files below `folder`, relative to `root`; links to folders are left to `_row` to refuse."""
    for entry in _entries(folder):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _files(root, path)
        else:
            yield path.relative_to(root).as_posix()


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    """What lies in a folder, by name, without hidden files and the clutter of desktops."""
    with os.scandir(folder) as found:
        kept = [entry for entry in found if not entry.name.startswith(".") and entry.name.lower() not in CLUTTER]
    return sorted(kept, key=lambda entry: entry.name)


def _manifest_rows(manifest: Path) -> Iterator[SourceRow | Refusal]:
    """Each row of a CSV or JSONL file, its path relative to the file's folder. Raises DataError."""
    records = _jsonl(manifest) if manifest.suffix.lower() in (".jsonl", ".ndjson") else _csv(manifest)
    try:
        for line, record in records:
            named = _named(record)
            yield _row_or_refusal(manifest.parent, named, str(named.get("path") or f"line {line}"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{str(manifest)!r} is no manifest in UTF-8: {error}") from error


def _csv(manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with manifest.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        columns = reader.fieldnames or []
        if not {"path", "label"} <= set(_named(dict.fromkeys(columns))):
            raise DataError(
                f"{str(manifest)!r} needs the columns path,label or image_path,pilltype_id; "
                f"it has {', '.join(columns) or 'none'}"
            )
        for record in reader:
            yield reader.line_num, record


def _jsonl(manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with manifest.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise DataError(f"{str(manifest)!r}, line {number} is no JSON: {error}") from error
            if not isinstance(record, dict):
                raise DataError(f"{str(manifest)!r}, line {number} is no JSON object: {line[:60]!r}")
            yield number, record


def _named(record: dict[str, Any]) -> dict[str, Any]:
    """The record under our names; ePillID's own columns (Usuyama et al., 2020) are known by theirs."""
    if "path" in record or not {"image_path", "pilltype_id"} <= set(record):
        return record
    front = FRONT.get(str(record.get("is_front")).strip().lower())
    return {"path": record["image_path"], "label": record["pilltype_id"], "side": front}


def _row_or_refusal(root: Path, record: dict[str, Any], name: str) -> SourceRow | Refusal:
    try:
        return _row(root, record)
    except _RowError as refusal:
        return _readable(name), str(refusal)


def _row(root: Path, record: dict[str, Any]) -> SourceRow:
    """One row, checked. Raises _RowError, and DataError when the path leads out of `root`."""
    if None in record:
        raise _RowError("more values than columns: quote values that hold a comma")
    path = _path(root, record.get("path"))
    label = _text(record, "label")
    if label is None:
        raise _RowError("no label")
    split = _text(record, "split")
    return SourceRow(
        path=path,
        label=unicodedata.normalize("NFC", label),  # macOS spells folder names in NFD
        group=_text(record, "group"),
        side=_text(record, "side"),
        split=None if split is None else _split(split),
        taken_at=_moment(_text(record, "taken_at")),
    )


def _path(root: Path, given: object) -> str:
    """The path below the resolved `root`, in its normal form; names of any alphabet, blanks and quotes are kept."""
    name = "" if given is None else str(given)
    if not name:
        raise _RowError("no path")
    if "\0" in name or not _is_utf8(name):
        raise _RowError("the file's name is not UTF-8 text: rename it")
    absolute = Path(os.path.normpath(root / name))
    try:
        if not absolute.is_relative_to(root) or not absolute.resolve().is_relative_to(root):
            raise DataError(
                f"{name!r} leads out of {str(root)!r}: copy the file into the folder", [(name, "leads out")]
            )
        if not absolute.is_file():
            raise _RowError("not a file" if absolute.exists() else "there is no such file")
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links
        raise _RowError(f"cannot be followed: {error}") from error
    return absolute.relative_to(root).as_posix()


def _text(record: dict[str, Any], key: str) -> str | None:
    """A value as text without blanks around it, None when it is missing or empty."""
    value = record.get(key)
    if value is None:
        return None
    text = str(value).strip()
    if isinstance(value, dict | list) or CONTROL.search(text) or len(text) > MAX_TEXT or not _is_utf8(text):
        raise _RowError(f"{key} is no short line of text: {text[:40]!r}")
    return text or None


def _split(given: str) -> Split:
    name = {"val": "validation"}.get(given, given)
    for split in SPLITS:
        if name == split:
            return split
    raise _RowError(f"split {given!r} is none of {', '.join(SPLITS)}")


def _moment(given: str | None) -> datetime | None:
    """An ISO 8601 date or time; without a zone it is UTC."""
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
    except ValueError as error:
        raise _RowError(f"taken_at {given!r} is no ISO 8601 time") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _is_utf8(text: str) -> bool:
    return _readable(text) == text


def _readable(text: str) -> str:
    """The text with undecodable bytes spelled out, so that reports can carry it."""
    return text.encode("utf-8", "backslashreplace").decode()


def _first(refused: Iterable[Refusal]) -> str:
    """The first three refusals, for the end of a message."""
    shown = [f"{path}: {reason}" for path, reason in refused][:3]
    return f" ({'; '.join(shown)}{'; ...' if len(shown) == 3 else ''})" if shown else ""
