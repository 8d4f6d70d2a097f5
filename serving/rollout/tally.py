"""Running totals for people and for the minimum evidence of a step; the judging is core/evidence's."""

from collections.abc import Mapping
from typing import NamedTuple


class Increment(NamedTuple):
    """New counts of one metric in a look, by category: (bad, good), or the classes of a mix."""

    stable: tuple[int, ...]
    candidate: tuple[int, ...]
    stable_eligible: int = 0
    candidate_eligible: int = 0


class Totals(NamedTuple):
    """Both arms' counts of one metric; stable is the arm compared with, bad the first category."""

    stable_bad: int = 0
    stable: int = 0
    candidate_bad: int = 0
    candidate: int = 0


class Coverage(NamedTuple):
    """Labelled and eligible answers of both arms."""

    stable_labelled: int = 0
    stable_eligible: int = 0
    candidate_labelled: int = 0
    candidate_eligible: int = 0


def totals(old: Mapping[str, Totals], increments: Mapping[str, Increment]) -> dict[str, Totals]:
    """Totals after a look."""
    return dict(old) | {name: _total(old.get(name, Totals()), new) for name, new in increments.items()}


def _total(old: Totals, new: Increment) -> Totals:
    return Totals(
        old.stable_bad + new.stable[0],
        old.stable + sum(new.stable),
        old.candidate_bad + new.candidate[0],
        old.candidate + sum(new.candidate),
    )


def coverage(
    old: Mapping[str, Coverage], increments: Mapping[str, Increment], labelled: Mapping[str, float]
) -> dict[str, Coverage]:
    """Coverage of the labelled metrics after a look."""
    new = {name: _covered(old.get(name, Coverage()), increments[name]) for name in labelled if name in increments}
    return dict(old) | new


def _covered(old: Coverage, new: Increment) -> Coverage:
    return Coverage(
        old.stable_labelled + sum(new.stable),
        old.stable_eligible + new.stable_eligible,
        old.candidate_labelled + sum(new.candidate),
        old.candidate_eligible + new.candidate_eligible,
    )


def answered(old: Mapping[str, int], increments: Mapping[str, Increment]) -> dict[str, int]:
    """The candidate's answers by metric after a look."""
    return dict(old) | {name: old.get(name, 0) + sum(new.candidate) for name, new in increments.items()}
