"""Near-duplicates of one label join their groups, so that a burst of one pill never lies on both sides of a split.

A joined group bears the name of its member whose hash is smallest (components/split/split.py turns it into a side). One
above `MAX_SHARE` of the rows is taken for look-alikes rather than copies, and one whose members were given different
sides cannot be whole: both are reported and left apart.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from components.validate.duplicates import connected, near_pairs
from core.config import Config
from core.dataset import Sample, Split
from core.errors import DataError

MAX_SHARE = 0.01
"""Of all rows. A larger joined group is a chain of look-alikes, and would drag one side's share with it."""


class JoinedGroup(Config):
    """Groups of one label that near-duplicates connect."""

    name: str
    """The member with the smallest hash, whose name the joined group bears."""
    members: tuple[str, ...]
    """All member groups, sorted."""
    rows: int
    reason: str = ""
    """Why it was left apart; empty when it was joined."""


def join(samples: Sequence[Sample], order: Callable[[str], float]) -> tuple[list[JoinedGroup], list[JoinedGroup]]:
    """The groups to join, and those to report instead; `order` gives a group's hash in [0, 1)."""
    rows = Counter(sample.group for sample in samples)
    given = given_sides(samples)
    joined, apart = [], []
    for members in _connected(samples):
        size = sum(rows[group] for group in members)
        found = JoinedGroup(name=min(members, key=lambda g: (order(g), g)), members=tuple(sorted(members)), rows=size)
        sides = sorted({given[group] for group in members if group in given})
        if len(sides) > 1:
            apart.append(found.model_copy(update={"reason": f"given different sides: {', '.join(sides)}"}))
        elif size > MAX_SHARE * len(samples):
            share = f"{size / len(samples):.1%} of the rows, more than {MAX_SHARE:.0%}"
            apart.append(found.model_copy(update={"reason": share}))
        else:
            joined.append(found)
    return joined, apart


def given_sides(samples: Sequence[Sample]) -> Mapping[str, Split]:
    """The side that the source gave to a group; raises DataError for groups that it gave two."""
    sides: dict[str, Counter[Split]] = {}
    for sample in samples:
        if sample.split is not None:
            sides.setdefault(sample.group, Counter())[sample.split] += 1
    torn = [
        (group, ", ".join(f"{n} rows in {side}" for side, n in found.items()))
        for group, found in sides.items()
        if len(found) > 1
    ]
    if torn:
        raise DataError(
            f"the given split tears {len(torn)} groups apart (first: {torn[0][0]!r}: {torn[0][1]}); "
            "give all rows of a group the same split, or none",
            torn,
        )
    return {group: next(iter(found)) for group, found in sides.items()}


def _connected(samples: Sequence[Sample]) -> list[list[str]]:
    """The groups that near-duplicates with one label connect."""
    pairs = near_pairs([sample.dhash for sample in samples], within=[sample.label for sample in samples])
    return connected((samples[a].group, samples[b].group) for a, b in pairs.tolist())
