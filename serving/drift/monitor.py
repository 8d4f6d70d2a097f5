"""Drift while it happens: the events of each look are one update of one e-detector over everything a release can lose.

A release's reference gives limits: no share of events may pass what the reference allows (its upper bound plus a
tolerance) beyond a quantile of a column, among outliers, or in a class; and no more labelled answers may be wrong than
the ladder tolerates. All limits are averaged into one detector (core/evidence/one_sample.py), so that its promise, one
false alarm in `quiet_days` on average, is made once per release. `cause.py` says what an alarm is about.
"""

from collections import Counter
from enum import StrEnum
from typing import Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.config import Config
from core.evidence import one_sample
from core.evidence.one_sample import Limit, Monitor, MonitorState
from core.verdict import Outcome, Verdict
from serving.drift.outliers import Outliers
from serving.drift.sample import UNKNOWN, Classes, Sample, Values

DAY = 86_400.0
USELESS = 0.97
"""A limit above this share can hardly be exceeded; it is left out."""
WRONG = "wrong answers"


class Part(StrEnum):
    """What a limit watches."""

    IMAGES = "image statistics"
    EMBEDDING = "embedding"
    OUTLIERS = "outliers"
    MIX = "mix of answers"
    QUALITY = "labelled answers"


class Settings(Config):
    """How a release is watched."""

    every_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Between two updates, by the clock."""
    quiet_days: Annotated[float, Field(gt=0)] = 90.0
    """Average time to a false alarm while every limit is kept."""
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """By how much a share may exceed the reference's upper bound: daily cycles and small changes are part of quiet."""
    reference_alpha: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Chance that any of the reference's bounds is wrong, over all of them."""
    together: Annotated[int, Field(ge=1)] = 10
    """Events that may come from one sitting at one camera, and so say the same: they count as one."""
    reference_together: Annotated[float, Field(ge=1)] | None = None
    """The same of the rows of the reference; none: as the release says, from the groups of its dataset. Too small a
    number puts limits too low, and quiet days raise alarms (benchmarks/drift_quiet.py)."""
    levels: tuple[float, ...] = (0.05, 0.25, 0.5)
    """Shares of the reference below and above which the columns' quantiles are taken."""
    directions: Annotated[int, Field(ge=0)] = 16
    """Principal directions of the embedding that are watched."""
    classes: Annotated[int, Field(ge=1)] = 50
    """Most frequent classes whose shares are watched."""

    @property
    def alpha(self) -> float:
        """One over the average run length, in updates."""
        return min(0.5, self.every_seconds / (self.quiet_days * DAY))


class Marks(NamedTuple):
    """Quantiles of columns: an event hits mark i when its number in `column[i]` lies beyond `value[i]`."""

    column: NDArray[np.int64]
    value: Values
    above: NDArray[np.bool_]

    def hits(self, values: Values) -> NDArray[np.bool_]:
        """bool [n, marks] of rows [n, columns]; a number that is missing hits nothing."""
        picked = values[:, self.column]
        return np.where(self.above, picked > self.value, picked < self.value)


class Watched(NamedTuple):
    """One release's limits, fitted to its reference."""

    settings: Settings
    release: str
    statistics: int
    """Columns of the sample from here on are image statistics; those before are the embedding."""
    middle: Values
    axes: Values
    """float64 [embedding, directions]"""
    columns: tuple[str, ...]
    """Names of the columns that `rows` gives."""
    marks: Marks
    outliers: Outliers
    classes: tuple[int, ...]
    labels: tuple[str, ...]
    parts: tuple[Part, ...]
    """Of each limit of the monitor."""
    monitor: Monitor

    @classmethod
    def fit(cls, reference: Sample, tolerated_errors: float, settings: Settings) -> Self:
        """Limits of a reference [n, k] of finite numbers; `tolerated_errors`: share of wrong answers (0..1)."""
        embedding = sum(name.startswith("embedding_") for name in reference.columns)
        middle, axes = _axes(reference.values[:, :embedding], settings.directions)
        names = (*reference.columns[embedding:], *(f"direction_{place}" for place in range(axes.shape[1])))
        outliers = Outliers.fit(reference.values)
        frequent = np.argsort(-np.bincount(reference.predictions, minlength=len(reference.classes)), kind="stable")
        classes = tuple(int(number) for number in frequent[: settings.classes])
        marks = _marks(_rows(reference.values, embedding, middle, axes), settings.levels)
        bare = cls(
            *(settings, reference.release, embedding, middle, axes, names, marks, outliers, classes),
            *(reference.classes, (), Monitor(limits=(Limit(name=WRONG, rate=tolerated_errors),), alpha=settings.alpha)),
        )
        parts, monitor = _limits(bare, reference, tolerated_errors)
        return bare._replace(parts=parts, monitor=monitor)

    def rows(self, values: Values) -> Values:
        """float64 [n, columns]: image statistics and the embedding's principal directions."""
        return _rows(values, self.statistics, self.middle, self.axes)

    def hits(self, values: Values, predictions: Classes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(usable, beyond) of every event and every limit but the labelled answers': bool [n, limits] each."""
        rows = self.rows(values)
        whole, known = np.isfinite(values).all(axis=1)[:, None], (predictions != UNKNOWN)[:, None]
        p_values = self.outliers.p_values(np.where(whole, values, 0.0))[:, None]
        answers = predictions[:, None] == np.array(self.classes)
        beyond = [self.marks.hits(rows), p_values <= np.array(OUTLIERS), answers, ~answers]
        usable = np.hstack(
            [
                np.isfinite(rows)[:, self.marks.column],
                np.repeat(whole, len(OUTLIERS), axis=1),
                np.repeat(known, 2 * len(self.classes), axis=1),
            ]
        )
        return usable, np.hstack(beyond) & usable

    def names(self) -> list[str]:
        """Of every limit that `hits` counts, in its order."""
        words = ("below", "above")
        marks = self.marks
        of_marks = [
            f"{self.columns[column]} {words[int(above)]} {value:.4g}, mark {place}"
            for place, (column, value, above) in enumerate(zip(marks.column, marks.value, marks.above, strict=True))
        ]
        far = [f"outliers, nearest {1 - level:.0%} excluded" for level in OUTLIERS]
        answered = [self.labels[number] for number in self.classes]
        return [*of_marks, *far, *(f"answers {name!r}" for name in answered), *(f"other than {n!r}" for n in answered)]

    def observe(self, state: MonitorState, window: Sample, wrong: int = 0, right: int = 0) -> MonitorState:
        """State after one update with the events of `window` and the labels that came since the last one."""
        usable, beyond = self.hits(window.values, window.predictions)
        n, k = usable.sum(axis=0).tolist(), beyond.sum(axis=0).tolist()
        by_name = dict(zip(self.names(), zip(n, k, strict=True), strict=True))
        counts = {limit.name: by_name[limit.name] for limit in self.monitor.limits if limit.name != WRONG}
        shared = {
            name: (all_ / self.settings.together, bad / self.settings.together) for name, (all_, bad) in counts.items()
        }
        return one_sample.observe(self.monitor, state, {**shared, WRONG: (wrong + right, wrong)})

    def evidence(self, state: MonitorState) -> dict[Part, float]:
        """log of each part's own mean over its limits; 1/alpha of it would be an alarm of that part alone."""
        each = one_sample.each(state)
        parts = np.array(self.parts)
        return {
            part: float(np.logaddexp.reduce(each[parts == part]) - np.log((parts == part).sum()))
            for part in dict.fromkeys(self.parts)
        }

    def strongest(self, state: MonitorState) -> Limit:
        """The limit with the most evidence against it."""
        return self.monitor.limits[int(np.argmax(one_sample.each(state)))]

    def judge(self, state: MonitorState) -> Verdict:
        """Fail at log(1/alpha) nats of the average over all parts; below it inconclusive."""
        value, limit = one_sample.evidence(self.monitor, state), float(-np.log(self.monitor.alpha))
        strongest = self.strongest(state).name.partition(", mark ")[0]
        return Verdict(
            question=f"events of {self.release[:12]} keep the limits of its reference",
            outcome=Outcome.FAIL if value >= limit else Outcome.INCONCLUSIVE,
            reason=f"evidence {max(value, 0):.2f} of {limit:.2f} nats, most of it from {strongest}",
            value=max(value, 0.0),
            limit=limit,
        )


OUTLIERS = (0.05, 0.2)
"""Levels of the outliers' p-values: shares of the reference that are at least as far away."""


def _axes(embeddings: Values, directions: int) -> tuple[Values, Values]:
    """Mean [d] and the first principal directions [d, r], those that carry variance."""
    if not embeddings.shape[1] or not directions:
        return np.zeros(embeddings.shape[1]), np.zeros((embeddings.shape[1], 0))
    middle = embeddings.mean(axis=0)
    _, sizes, axes = np.linalg.svd(embeddings - middle, full_matrices=False)
    kept = min(directions, int((sizes > sizes[0] * 1e-6).sum()))
    return middle, axes[:kept].T


def _rows(values: Values, embedding: int, middle: Values, axes: Values) -> Values:
    return np.hstack([values[:, embedding:], (values[:, :embedding] - middle) @ axes])


def _marks(rows: Values, levels: tuple[float, ...]) -> Marks:
    """The order statistics of each column [n, columns] at `levels` from below and from above."""
    ordered, count = np.sort(rows, axis=0), len(rows)
    found = [
        (column, ordered[place if not above else count - 1 - place, column], above)
        for column in range(rows.shape[1])
        for level in levels
        for above in (False, True)
        for place in [min(count - 1, int(level * count))]
    ]
    columns, values, above = zip(*found, strict=True) if found else ((), (), ())
    return Marks(np.array(columns, np.int64), np.array(values, float), np.array(above, bool))


def _limits(watched: Watched, reference: Sample, tolerated_errors: float) -> tuple[tuple[Part, ...], Monitor]:
    """The parts of the limits, and the monitor over them; each part has the same weight, and the same share of the
    chance that one of the reference's bounds is wrong.

    The share of events beyond the j-th order statistic of n is bounded as if j + 1 of n had been counted beyond a
    fixed mark: its distribution is that of the binomial tail's inverse. Of the outliers only the half of the reference
    counts that their Gaussian was not fitted on: rows that it was fitted on lie nearer than others.
    """
    usable, beyond = watched.hits(reference.values, reference.predictions)
    n, k = usable.sum(axis=0), beyond.sum(axis=0)
    settings, held_out = watched.settings, len(watched.outliers.known)
    marks, images = len(watched.marks.column), len(watched.columns) - watched.axes.shape[1]
    far = slice(marks, marks + len(OUTLIERS))
    n[far], k[far] = held_out, [int(level * (1 + held_out)) for level in OUTLIERS]
    parts = [Part.IMAGES if column < images else Part.EMBEDDING for column in watched.marks.column]
    parts += [Part.OUTLIERS] * len(OUTLIERS) + [Part.MIX] * (len(n) - far.stop)
    alike = settings.reference_together or reference.together
    first = np.minimum(k + (np.arange(len(n)) < far.stop), n) / alike
    bounded = Counter(parts)
    rates = [
        one_sample.tolerated(
            float(a), float(b), settings.reference_alpha / len(bounded) / bounded[part], settings.tolerance
        )
        for a, b, part in zip(n / alike, first, parts, strict=True)
    ]
    named = [
        (name, rate, part) for name, rate, part in zip(watched.names(), rates, parts, strict=True) if rate < USELESS
    ]
    named.append((WRONG, tolerated_errors, Part.QUALITY))
    size = {part: sum(other is part for *_, other in named) for *_, part in named}
    limits = tuple(Limit(name=name, rate=rate, weight=1 / size[part]) for name, rate, part in named)
    return tuple(part for *_, part in named), Monitor(limits=limits, alpha=settings.alpha)
