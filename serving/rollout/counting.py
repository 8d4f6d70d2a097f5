"""From cumulative counters to what is new in a look. Nothing is counted twice and nothing is guessed.

Both arms' counters of a metric move together: while one arm has nothing new, the other waits, and a scrape that was
missed is made up for by the next. A source that is new starts from where it is; one that restarted, from zero.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from serving.rollout.observations import Arm, Reading
from serving.rollout.spec import FULL, RolloutSpec
from serving.rollout.state import Cursor, RolloutState
from serving.rollout.tally import Increment
from serving.rollout.weights import shares

SOURCES = 4096
"""Counters remembered; the one unheard of for longest is forgotten first (it would start again from where it is)."""


class Counter(NamedTuple):
    """One counter as it stands in a reading."""

    key: str
    arm: Arm
    now: Cursor


class Counted(NamedTuple):
    """What the readings of one look said."""

    cursors: dict[str, Cursor]
    increments: dict[str, Increment]
    problems: tuple[str, ...]


def count(spec: RolloutSpec, state: RolloutState, readings: Iterable[Reading]) -> Counted:
    """New counts per metric, and where every counter stands now. Counters of metrics not in the spec are ignored."""
    sizes, problems = spec.sizes, []
    fresh: dict[str, list[Counter]] = defaultdict(list)
    cursors = dict(state.cursors)
    for reading in sorted(readings, key=lambda item: item.stamp):
        for metric in reading.counts:
            if metric not in sizes:
                continue
            counter = _counter(reading, metric)
            if len(counter.now.counts) != sizes[metric]:
                problems.append(f"{counter.key}: {len(counter.now.counts)} counts where {sizes[metric]} belong")
            elif counter.key not in cursors:
                cursors[counter.key] = counter.now
            elif reading.stamp > cursors[counter.key].stamp:
                fresh[metric].append(counter)
    reference: Arm = "baseline" if shares(spec, state.weight).baseline else "stable"
    increments = {}
    for metric, found in fresh.items():
        alone = metric in spec.one_armed or state.weight == FULL
        moving = (reference, "candidate") if alone or {reference, "candidate"} <= {c.arm for c in found} else ()
        new = _move([counter for counter in found if counter.arm in (*moving, *_OTHER[reference])], cursors)
        if moving:
            increments[metric] = _increment(new[reference], new["candidate"], sizes[metric])
    return Counted(_newest(cursors), increments, tuple(sorted(problems)))


_OTHER: dict[Arm, tuple[Arm, ...]] = {"stable": ("baseline",), "baseline": ("stable",)}
"""Arms that are not compared: their counters always move."""


def _counter(reading: Reading, metric: str) -> Counter:
    key = f"{reading.source}|{reading.arm}|{metric}"
    now = Cursor(reading.stamp, reading.incarnation, reading.counts[metric], reading.eligible.get(metric, 0))
    return Counter(key, reading.arm, now)


def _move(counters: list[Counter], cursors: dict[str, Cursor]) -> dict[str, list[int]]:
    """New counts by arm, eligible last; moves the cursors of `counters`."""
    new: dict[str, list[int]] = {"stable": [], "candidate": [], "baseline": []}
    for key, arm, now in counters:
        gained = _since(cursors[key], now)
        new[arm] = [a + b for a, b in zip(new[arm], gained, strict=True)] if new[arm] else gained
        cursors[key] = now
    return new


def _increment(stable: list[int], candidate: list[int], size: int) -> Increment:
    stable, candidate = stable or [0] * (size + 1), candidate or [0] * (size + 1)
    return Increment(tuple(stable[:-1]), tuple(candidate[:-1]), stable[-1], candidate[-1])


def _since(old: Cursor, now: Cursor) -> list[int]:
    """What a counter gained, per count and for eligible; everything it says after a restart."""
    values = [*now.counts, now.eligible]
    gained = [a - b for a, b in zip(values, (*old.counts, old.eligible), strict=True)]
    return values if now.incarnation != old.incarnation or min(gained) < 0 else gained


def _newest(cursors: Mapping[str, Cursor]) -> dict[str, Cursor]:
    if len(cursors) <= SOURCES:
        return dict(cursors)
    kept = sorted(cursors, key=lambda key: cursors[key].stamp)[-SOURCES:]
    return {key: cursors[key] for key in kept}
