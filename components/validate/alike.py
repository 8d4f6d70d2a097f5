"""Which images of a dataset are the same or nearly, and what follows: repeats, contradicting labels, leaks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.validate.duplicates import MAX_PAIRS, Indices, connected, near_pairs, popcount
from components.validate.profile import Decode, picture
from components.validate.report import Alike
from core.dataset import Sample

LISTED = 100
"""Groups, and pairs, in the report."""

NAMED = 12
"""Images of a listed group that are named, and shown."""

SHOWN = 12
"""Listed groups, and pairs, with pictures."""


@dataclass(frozen=True)
class Likeness:
    """What the hashes say of all images."""

    duplicates: int
    near_duplicates: int
    alike: tuple[Alike, ...]
    conflicts: int
    conflicting: tuple[Alike, ...]
    across: int
    """Pairs that the source's own split puts on two sides."""
    overflow: bool
    """More pairs than MAX_PAIRS: all numbers but `duplicates` are too low."""


def compare(samples: Sequence[Sample], decode: Decode) -> Likeness:
    """Compare every image with every other, by hash."""
    pairs = near_pairs([sample.dhash for sample in samples])
    groups = sorted(connected((a, b) for a, b in pairs.tolist()), key=lambda group: (-len(group), min(group)))
    distinct = [len({samples[index].sha256 for index in group}) for group in groups]
    conflicts = _two(samples, pairs, [sample.label for sample in samples])
    across = _two(samples, pairs, [sample.split for sample in samples])
    return Likeness(
        duplicates=len(samples) - len({sample.sha256 for sample in samples}),
        near_duplicates=sum(count for count in distinct if count > 1),
        alike=_listed(samples, groups, decode),
        conflicts=len(conflicts),
        conflicting=_listed(samples, conflicts[:LISTED].tolist(), decode),
        across=len(across),
        overflow=len(pairs) >= MAX_PAIRS,
    )


def _two(samples: Sequence[Sample], pairs: Indices, values: Sequence[str | None]) -> Indices:
    """The pairs with two different values (neither None), the nearest first."""
    known = np.array([value or "" for value in values], dtype=object)
    first, second = known[pairs[:, 0]], known[pairs[:, 1]]
    chosen = pairs[(first != second) & (first != "") & (second != "")]
    words = np.array([int(sample.dhash, 16) for sample in samples], np.uint64)
    nearest: Indices = chosen[np.argsort(popcount(words[chosen[:, 0]] ^ words[chosen[:, 1]]), kind="stable")]
    return nearest


def _listed(samples: Sequence[Sample], groups: Sequence[Sequence[int]], decode: Decode) -> tuple[Alike, ...]:
    return tuple(
        _alike([samples[index] for index in sorted(group)], decode if position < SHOWN else None)
        for position, group in enumerate(groups[:LISTED])
    )


def _alike(group: Sequence[Sample], decode: Decode | None) -> Alike:
    words = np.array([int(sample.dhash, 16) for sample in group], np.uint64)
    named = group[:NAMED]
    return Alike(
        count=len(group),
        ids=tuple(sample.id for sample in named),
        labels=tuple(sample.label for sample in named),
        bits=int(popcount(words ^ words[0]).max()),
        pictures=tuple(picture(sample.sha256, decode) for sample in named) if decode else (),
    )
