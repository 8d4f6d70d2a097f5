"""Counts of one metric in both arms, and the pooling of looks that are too small to be judged alone."""

from collections.abc import Sequence

from core.config import Config
from core.errors import UserError

SMALLEST = 10
"""Requests of both arms together. A stratum of n tells 1/n less than it could (an arm may even be missing from it), so
smaller looks wait for the next; the pool is judged as one look, whatever its answers are."""

Counts = tuple[int, ...]
Pair = tuple[Counts, Counts]
"""Stable's and the candidate's counts, by category."""


class Observation(Config):
    """Counts of one metric in one look, by category; a metric without categories has (bad, good): see `events`."""

    stable: Counts
    candidate: Counts


def events(n_s: int, k_s: int, n_c: int, k_c: int) -> Observation:
    """k bad of n in each arm. Raises UserError for counts that are none."""
    if not (0 <= k_s <= n_s and 0 <= k_c <= n_c):
        raise UserError(f"{k_s!r} of {n_s!r} and {k_c!r} of {n_c!r} are no counts; give 0 <= bad <= all")
    return Observation(stable=(k_s, n_s - k_s), candidate=(k_c, n_c - k_c))


def nothing(size: int) -> Pair:
    """No answers yet in `size` categories."""
    return (0,) * size, (0,) * size


def add(one: Pair, other: Pair) -> Pair:
    """Category by category."""
    return _sum(one[0], other[0]), _sum(one[1], other[1])


def _sum(one: Sequence[int], other: Sequence[int]) -> Counts:
    return tuple([a + b for a, b in zip(one, other, strict=True)])


def split(pool: Pair) -> tuple[Pair, Pair]:
    """(to be judged now, still waiting): all of the pool or nothing."""
    none = nothing(len(pool[0]))
    return (pool, none) if sum(pool[0]) + sum(pool[1]) >= SMALLEST else (none, pool)


def within(pair: Pair, chosen: Sequence[int]) -> tuple[int, int, int, int]:
    """(n_s, k_s, n_c, k_c): all answers of each arm, and those in the chosen categories."""
    stable, candidate = pair
    return sum(stable), sum(stable[i] for i in chosen), sum(candidate), sum(candidate[i] for i in chosen)
