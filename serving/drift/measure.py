"""What every method answers."""

from typing import NamedTuple

from serving.drift.sample import Values


class Measure(NamedTuple):
    """One comparison of a window with a reference."""

    statistic: float
    p_value: float
    """Of the whole window, all columns together."""
    effect: float
    """0..1"""
    attribution: Values
    """float64 [k], 0..1: how far each column (or class) moved."""
    by_class: bool = False
    """The attribution is per class, not per column."""
