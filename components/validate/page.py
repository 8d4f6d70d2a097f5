"""The report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

import itertools
from collections.abc import Mapping
from pathlib import Path

from components.validate.duplicates import NEAR_BITS
from components.validate.report import ValidationReport
from core.pages import template

ROWS = 200
"""Of the quarantine list that the page shows; report.json has all."""

COLUMNS = 120
"""Of the chart of class sizes; with more classes, a column is the mean of its neighbours."""


def page(report: ValidationReport) -> str:
    """The whole page."""
    bins = report.colour.brightness if report.colour else ()
    brightness = [(f"{16 * step} to {16 * step + 15}", count) for step, count in enumerate(bins)]
    return template(Path(__file__), "report.html.jinja").render(
        report=report, columns=class_columns(report.classes), brightness=brightness, row_limit=ROWS, near_bits=NEAR_BITS
    )


def class_columns(classes: Mapping[str, int]) -> list[tuple[str, float]]:
    """(name, images) of each column of the class chart, largest first; at most COLUMNS."""
    ranked = sorted(classes.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) <= COLUMNS:
        return [(name, float(count)) for name, count in ranked]
    edges = [round(column * len(ranked) / COLUMNS) for column in range(COLUMNS + 1)]
    parts = [ranked[start:end] for start, end in itertools.pairwise(edges)]
    return [(f"{part[0][0]} to {part[-1][0]}", sum(count for _, count in part) / len(part)) for part in parts]
