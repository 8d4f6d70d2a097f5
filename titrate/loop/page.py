"""drift.html: one self-contained page: what moved, since when, and what it costs, for people who were not there."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.errors import UserError
from core.files import write_atomic
from core.home import Home
from core.pages import template
from core.slo import Slo
from serving.drift import ks
from serving.drift.sample import UNKNOWN, Sample, Values, of_release
from titrate.loop import watch
from titrate.loop.answers import AnsweredEvents, Answers
from titrate.loop.settings import folder
from titrate.report import curve
from titrate.stack.releases import fetched
from titrate.stack.state import wanted

SHOWN, EMBEDDED = 6, 2
"""Columns whose distributions are drawn, those of the embedding among them; and classes whose shares are told."""
BINS = 24
DAYS = 14
LEAST = 100
"""Fewer events of a day have no score (M06)."""


class Distribution(NamedTuple):
    """One column: bars of the reference and of the window, as points of SVG polylines."""

    name: str
    score: float
    low: float
    high: float
    old: str
    new: str


class Day(NamedTuple):
    """One day of answers."""

    name: str
    answers: Answers
    accuracy: float | None
    score: float | None


def write_page(home: Home, workload: str) -> Path:
    """Write the page of what serves now; returns the file. Raises UserError where nothing serves."""
    release = wanted(home).stable.get(workload)
    if release is None:
        raise UserError(f"no release of {workload!r} serves; there is nothing to tell of")
    file = folder(home, workload) / "drift.html"
    write_atomic(file, _page(home, workload, release))
    return file


def _page(home: Home, workload: str, release: str) -> str:
    ladder, answered = Slo.load(workload), AnsweredEvents(home)
    reference = of_release(fetched(home, release), release)
    hours = ladder.drift.window_hours
    since = datetime.now(UTC) - timedelta(hours=hours)
    window = answered.window(workload, reference, since=_micros(since)).sample.complete()
    state = watch.load(home, workload)
    return template(Path(__file__), "page.html.jinja").render(
        style=(Path(__file__).parents[1] / "style.css").read_text(),
        workload=workload,
        release=release,
        hours=hours,
        ladder=ladder,
        events=len(window.values),
        watch=state if state and state.release == release else None,
        lines=_lines(state) if state and state.points else {},
        alarms=watch.alarms(home, workload)[::-1],
        distributions=_distributions(reference, window),
        classes=_classes(reference, window),
        days=_days(answered, workload, reference),
        now=datetime.now(UTC),
    )


def _lines(state: watch.WatchState) -> dict[str, str]:
    """Evidence over time by part, drawn against the limit."""
    top = max(state.limit, *(value for point in state.points for value in point.parts.values()))
    return {
        part: curve([point.parts.get(part, 0.0) for point in state.points], span=(0.0, top))
        for part in state.points[-1].parts
    }


def _distributions(reference: Sample, window: Sample) -> list[Distribution]:
    """Of the image statistics that moved most, then of the embedding's columns."""
    if not len(window.values):
        return []
    distances = ks.Ks.fit(reference.values, reference.predictions, 1).distances(window.values)
    size = (len(distances), len(reference.values), len(window.values))
    order = np.argsort(-distances, kind="stable").tolist()
    embedded = [place for place in order if window.columns[place].startswith("embedding_")]
    pictured = [place for place in order if not window.columns[place].startswith("embedding_")]
    return [
        _distribution(
            window.columns[place], reference.values[:, place], window.values[:, place], distances[place], size
        )
        for place in (pictured[: SHOWN - EMBEDDED] + embedded[:EMBEDDED])
    ]


def _distribution(name: str, old: Values, new: Values, distance: float, size: tuple[int, int, int]) -> Distribution:
    low, high = float(min(old.min(), new.min())), float(max(old.max(), new.max()))
    high = high if high > low else low + 1.0
    shares = [np.histogram(values, BINS, (low, high))[0] / len(values) for values in (old, new)]
    top = max(float(share.max()) for share in shares) or 1.0
    lines = [curve(share.tolist(), span=(0.0, top)) for share in shares]
    return Distribution(name, ks.score(float(distance), *size), low, high, *lines)


def _classes(reference: Sample, window: Sample) -> list[tuple[str, float, float]]:
    """(class, share in the reference, share in the window) of those that changed most."""
    known = window.predictions[window.predictions != UNKNOWN]
    if not len(known):
        return []
    shares = [
        np.bincount(found, minlength=len(reference.classes)) / len(found) for found in (reference.predictions, known)
    ]
    order = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:SHOWN]
    return [(reference.classes[place], float(shares[0][place]), float(shares[1][place])) for place in order.tolist()]


def _days(answered: AnsweredEvents, workload: str, reference: Sample) -> list[Day]:
    """The last days with answers, newest first."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = []
    for back in range(DAYS):
        start = midnight - timedelta(days=back)
        since, until = _micros(start), _micros(start + timedelta(days=1))
        answers = answered.answers(workload, reference.release, since, until)
        if not answers.all:
            continue
        labelled = answers.wrong + answers.right
        window = answered.window(workload, reference, since=since, until=until).sample.complete()
        days.append(
            Day(f"{start:%F}", answers, answers.right / labelled if labelled else None, _score(reference, window))
        )
    return days


def _score(reference: Sample, window: Sample) -> float | None:
    if len(window.values) < LEAST:
        return None
    distances = ks.Ks.fit(reference.values, reference.predictions, 1).distances(window.values)
    return ks.score(float(distances.max()), len(distances), len(reference.values), len(window.values))


def _micros(at: datetime) -> int:
    return int(at.timestamp() * 1e6)
