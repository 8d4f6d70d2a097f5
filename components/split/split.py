"""Which sample trains, which selects, which judges: decided by a hash of the sample's group, and by nothing else.

A group's side follows from its name, so it stays when the data grows (D06), on every machine. A joined group
(components/split/groups.py) has the side of its smallest hash, and train holds the smallest: growth can move it towards
train only, so that nothing a model was trained on is ever used to judge it. The limits: a joined group that grows
beyond 1 % of the rows is taken apart again, and a class with few groups can miss a side. Who needs more control gives
rows a `split` in the manifest: it is kept.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from components.split.groups import JoinedGroup, given_sides, join
from core.config import Config
from core.dataset import SPLITS, Dataset, Sample, Split
from core.errors import DataError, PermanentError
from core.files import new_folder, write_atomic

SALT = "titrate-split-1"
"""Changing it reshuffles every dataset: never."""

SHARES: Mapping[Split, float] = {"train": 0.70, "validation": 0.10, "test": 0.10, "final_eval": 0.10}


class SplitReport(Config):
    """`split.json`: what went where."""

    salt: str
    shares: dict[Split, float]
    rows: dict[Split, int]
    groups: dict[Split, int]
    given_rows: int
    """Rows whose side the source gave."""
    classes: dict[str, dict[Split, int]]
    """Rows of each class on each side."""
    missing: dict[Split, tuple[str, ...]]
    """Classes without a row in validation, test or final_eval: nothing is measured of them there."""
    joined: tuple[JoinedGroup, ...]
    """Groups that near-duplicates connect, and that therefore share a side."""
    apart: tuple[JoinedGroup, ...]
    """Groups that near-duplicates connect and that were left apart all the same, with the reason."""


def split(dataset_folder: Path, out: Path) -> Dataset:
    """Give each sample of the dataset a side; writes the dataset and `split.json` to the folder `out`, all or nothing.

    Raises DataError when the source gave one group two sides, a class has nothing to train on, or a side is empty.
    """
    dataset = Dataset.read(dataset_folder)
    joined, apart = join(dataset.samples, position)
    samples = assign(dataset.samples, joined)
    prove_no_leak(samples)
    given = sum(sample.split is not None for sample in dataset.samples)
    report = _report(samples, joined, apart, given)
    _refuse_gaps(report)
    kept = dataset.info.model_dump(exclude={"digest", "rows", "classes"})
    with new_folder(out) as draft:
        Dataset.write(draft, samples, **kept)
        write_atomic(draft / "split.json", report.model_dump_json(indent=2))
    return Dataset.read(out)


def position(group: str) -> float:
    """Where the group falls in [0, 1): the first 52 bits of SHA-256(salt, group), exact in a float."""
    return int(hashlib.sha256(f"{SALT}\0{group}".encode()).hexdigest()[:13], 16) / 16**13


def side(group: str) -> Split:
    """The side of a group: [0, 0.7) trains, then 0.1 each validates, tests, and judges at promotion."""
    left = position(group)
    for name, share in SHARES.items():
        left -= share
        if left < 0:
            return name
    return SPLITS[-1]


def assign(samples: Sequence[Sample], joined: Iterable[JoinedGroup]) -> list[Sample]:
    """The samples with their side, under the name of their joined group; a given side holds for the whole group."""
    name = {member: group.name for group in joined for member in group.members}
    given = {name.get(group, group): known for group, known in given_sides(samples).items()}
    sides: dict[str, Split] = {}
    for sample in samples:
        group = name.get(sample.group, sample.group)
        sides[group] = given.get(group) or side(group)
    return [
        sample.model_copy(update={"group": group, "split": sides[group]})
        for sample in samples
        for group in (name.get(sample.group, sample.group),)
    ]


def prove_no_leak(samples: Iterable[Sample]) -> None:
    """Raises PermanentError when a group sits on two sides, or a sample on none."""
    sides: dict[str, Split] = {}
    for sample in samples:
        if sample.split is None:
            raise PermanentError(f"sample {sample.id!r} has no side")
        first = sides.setdefault(sample.group, sample.split)
        if first != sample.split:
            raise PermanentError(f"group {sample.group!r} sits on two sides, {first} and {sample.split}")


def _report(
    samples: Sequence[Sample], joined: Sequence[JoinedGroup], apart: Sequence[JoinedGroup], given: int
) -> SplitReport:
    rows = Counter(sample.split for sample in samples)
    groups = Counter({sample.group: sample.split for sample in samples}.values())
    cells = Counter((sample.label, sample.split) for sample in samples)
    labels = sorted({sample.label for sample in samples})
    return SplitReport(
        salt=SALT,
        shares=dict(SHARES),
        rows={name: rows[name] for name in SPLITS},
        groups={name: groups[name] for name in SPLITS},
        given_rows=given,
        classes={label: {name: cells[label, name] for name in SPLITS} for label in labels},
        missing={
            name: tuple(label for label in labels if not cells[label, name]) for name in SPLITS if name != "train"
        },
        joined=tuple(joined),
        apart=tuple(apart),
    )


def _refuse_gaps(report: SplitReport) -> None:
    """Raises DataError for what nobody can train or judge with."""
    bare = [label for label, counts in report.classes.items() if not counts["train"]]
    if bare:
        shown = ", ".join(repr(label) for label in bare[:5]) + (", ..." if len(bare) > 5 else "")
        raise DataError(
            f"{len(bare)} classes have no group in train: {shown}; add groups (pills, sessions, images) to them, "
            "give their rows a `split` in the manifest, or leave the classes out",
            [(label, f"0 of {sum(report.classes[label].values())} rows in train") for label in bare],
        )
    empty = [name for name in SPLITS if not report.rows[name]]
    if empty:
        raise DataError(
            f"no row is in {' and '.join(empty)}: the data has {sum(report.groups.values())} groups, and "
            f"{report.given_rows} of {sum(report.rows.values())} rows have a given split; "
            "add groups (pills, sessions, images), or give some rows these splits in the manifest"
        )
