"""The result of a sweep as one HTML file that needs nothing else: no script, no font, no picture from elsewhere."""

import math
from collections.abc import Sequence
from pathlib import Path

from core.config import Config
from core.pages import template
from tuning.records import Sweep, Trial
from tuning.result import SweepResult
from workloads.space import Choice, Integer, Scalar, Uniform, describe

WIDE, HIGH, EDGE = 960.0, 300.0, 40.0
"""Of a chart, and its margin; units of its own, scaled to the page."""


class Axis(Config):
    """One axis of the parallel coordinates."""

    name: str
    x: float
    top: str
    """What is said at its upper end."""
    bottom: str


class Line(Config):
    """One trial in a chart."""

    number: int
    points: str
    """As SVG's polyline takes them."""
    shade: float
    """0 for the worst score, 1 for the best."""
    label: str
    state: str


class Dot(Config):
    """One trial in the picture of score against latency."""

    number: int
    x: float
    y: float
    on_front: bool
    label: str


def page(sweep: Sweep, found: SweepResult) -> str:
    """The whole page."""
    scored = [trial for trial in found.trials if trial.score is not None]
    return template(Path(__file__), "report.html.jinja", short=short).render(
        sweep=sweep,
        found=found,
        best=found.trial(found.best) if found.best is not None else None,
        space={key: describe(span) for key, span in sweep.space.keys.items()},
        axes=axes(sweep, scored),
        lines=parallel(sweep, scored),
        curves=curves(scored),
        dots=dots(found),
        scores=limits([trial.score or 0.0 for trial in _measured(found)]),
        learned=limits([score for trial in scored for _, score in trial.curve]),
        latencies=limits([trial.latency_ms or 0.0 for trial in _measured(found)]),
        counts={
            state: sum(t.state == state for t in found.trials) for state in sorted({t.state for t in found.trials})
        },
        wide=WIDE,
        high=HIGH,
        edge=EDGE,
    )


def axes(sweep: Sweep, scored: Sequence[Trial]) -> list[Axis]:
    """An axis for each key that was searched, and the score's."""
    keys = list(sweep.space.keys)
    low, high = limits([trial.score or 0.0 for trial in scored])
    ends = {key: _ends(sweep.space.keys[key]) for key in keys} | {"score": (f"{low:.3f}", f"{high:.3f}")}
    names = [*keys, "score"]
    return [
        Axis(name=name, x=_x(place, len(names)), bottom=ends[name][0], top=ends[name][1])
        for place, name in enumerate(names)
    ]


def parallel(sweep: Sweep, scored: Sequence[Trial]) -> list[Line]:
    """A line for each trial through its values, worst first, so that the best lie on top."""
    low, high = limits([trial.score or 0.0 for trial in scored])
    keys = list(sweep.space.keys)
    lines = []
    for trial in sorted(scored, key=lambda one: one.score or 0.0):
        shade = ((trial.score or 0.0) - low) / (high - low)
        heights = [place(sweep.space.keys[key], trial.values[key]) for key in keys] + [shade]
        points = " ".join(f"{_x(number, len(heights)):.1f},{_y(height):.1f}" for number, height in enumerate(heights))
        lines.append(Line(number=trial.number, points=points, shade=shade, label=_label(trial), state=trial.state))
    return lines


def curves(scored: Sequence[Trial]) -> list[Line]:
    """The score of each trial over its training."""
    low, high = limits([score for trial in scored for _, score in trial.curve])
    final_low, final_high = limits([trial.score or 0.0 for trial in scored])
    lines = []
    for trial in sorted(scored, key=lambda one: one.score or 0.0):
        points = " ".join(
            f"{EDGE + (WIDE - 2 * EDGE) * percent / 100:.1f},{_y((score - low) / (high - low)):.1f}"
            for percent, score in trial.curve
        )
        shade = ((trial.score or 0.0) - final_low) / (final_high - final_low)
        lines.append(Line(number=trial.number, points=points, shade=shade, label=_label(trial), state=trial.state))
    return lines


def dots(found: SweepResult) -> list[Dot]:
    """Every finished trial whose latency is known: x by latency, y by score."""
    trials = _measured(found)
    slow, fast = limits([trial.latency_ms or 0.0 for trial in trials])
    low, high = limits([trial.score or 0.0 for trial in trials])
    return [
        Dot(
            number=trial.number,
            x=EDGE + (WIDE - 2 * EDGE) * ((trial.latency_ms or 0.0) - slow) / (fast - slow),
            y=_y(((trial.score or 0.0) - low) / (high - low)),
            on_front=trial.number in found.front,
            label=f"{_label(trial)}, {trial.latency_ms:.2f} ms",
        )
        for trial in trials
    ]


def place(span: Uniform | Integer | Choice, value: Scalar) -> float:
    """Where a value lies in its range, 0 to 1."""
    if isinstance(span, Choice):
        return span.options.index(value) / (len(span.options) - 1)
    if span.log:
        return math.log(float(value) / span.low) / math.log(span.high / span.low)
    return (float(value) - span.low) / (span.high - span.low)


def limits(values: Sequence[float]) -> tuple[float, float]:
    """The least and the largest of them, never equal."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def short(value: Scalar) -> str:
    """A value in a table."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _ends(span: Uniform | Integer | Choice) -> tuple[str, str]:
    values = span.ends()
    return short(values[0]), short(values[-1])


def _measured(found: SweepResult) -> list[Trial]:
    return [trial for trial in found.trials if trial.state == "finished" and trial.latency_ms is not None]


def _x(place: int, places: int) -> float:
    return EDGE + (WIDE - 2 * EDGE) * place / max(1, places - 1)


def _y(height: float) -> float:
    return HIGH - EDGE - (HIGH - 2 * EDGE) * height


def _label(trial: Trial) -> str:
    values = ", ".join(f"{key} {short(value)}" for key, value in trial.values.items())
    return f"trial {trial.number}, {trial.state}, score {trial.score or 0.0:.4f}: {values}"
