"""One interface over all detectors: fit a method to a reference, score a window, get a finding.

A method compares clean arrays (`ks.py`, `mmd.py`, `classifier.py`, `mix.py`, `alibi.py`); what may be wrong with a
window (too few events, missing or broken numbers, another release) is settled here once.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple, Protocol

import numpy as np
from pydantic import Field

from core.config import Config
from core.errors import UserError, nearest
from core.verdict import Outcome, Verdict
from serving.drift import classifier, ks, mix, mmd
from serving.drift.measure import Measure
from serving.drift.sample import Classes, Sample, Values

MISSING_SHARE = 0.5
"""A column that lacks a finite number in more rows than this is missing; otherwise the row is left out."""


class Fitted(Protocol):
    """A method that knows its reference."""

    def measure(self, values: Values, predictions: Classes) -> Measure:
        """Compare clean rows [n, k] with the reference."""


Fit = Callable[[Values, Classes, int], Fitted]
"""(values [n, k], predictions [n], number of classes) of a reference."""


def _alibi(name: str) -> Fit:
    def fit(values: Values, predictions: Classes, classes: int) -> Fitted:
        from serving.drift import alibi  # 4 to 15 s, and another licence: only where it was asked for

        return alibi.fit(name, values)

    return fit


METHODS: dict[str, Fit] = {
    "ks": ks.Ks.fit,
    "mmd": mmd.Mmd.fit,
    "classifier": classifier.Classifier.fit,
    "mix": mix.Mix.fit,
    **{f"alibi.{name}": _alibi(name) for name in ("KSDrift", "MMDDrift", "LSDDDrift", "ClassifierDrift")},
}


class Settings(Config):
    """Which method decides, and when."""

    method: str = "ks"
    """A key of METHODS. `alibi.*` is alibi-detect: licence BSL 1.1, production use only in non-profit education."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Chance that one quiet window fails; for one look, not for a service that looks again and again."""
    min_events: Annotated[int, Field(ge=2)] = 100
    """Fewer complete events are inconclusive (M06)."""


class Finding(Config):
    """What one detector says of one window."""

    method: str
    verdict: Verdict
    events: int
    """Complete ones, which were compared."""
    statistic: float | None = None
    p_value: float | None = None
    effect: float | None = None
    """0 (alike) to 1 (nothing in common), of the method's own kind."""
    attribution: dict[str, float] = Field(default={})
    """How far each column moved, 0 to 1, most first; of `mix`: each class."""
    missing: tuple[str, ...] = ()
    """Columns that the window lacks."""


class Detector(NamedTuple):
    """A method fitted to the reference of one release."""

    settings: Settings
    reference: Sample
    fitted: Fitted

    def score(self, window: Sample) -> Finding:
        """Compare a window with the reference. Raises UserError for a window of another release."""
        _same_release(self.reference, window)
        complete, kept, rows = _usable(window.values)
        missing = tuple(name for name, there in zip(window.columns, kept, strict=True) if not there)
        if rows.sum() < self.settings.min_events or not kept.any():
            return self._inconclusive(len(window.values), int(rows.sum()), missing)
        fitted = self.fitted if not missing else _fit(self.settings.method, self.reference, kept)
        measure = fitted.measure(complete, window.predictions[rows])
        names = window.classes if measure.by_class else tuple(np.array(window.columns)[kept].tolist())
        return self._finding(measure, names, int(rows.sum()), missing)

    def _inconclusive(self, events: int, usable: int, missing: tuple[str, ...]) -> Finding:
        reason = f"{usable} complete events of {events}, at least {self.settings.min_events} are needed"
        verdict = Verdict(question=self._question(), outcome=Outcome.INCONCLUSIVE, reason=reason)
        return Finding(method=self.settings.method, verdict=verdict, events=usable, missing=missing)

    def _finding(self, measure: Measure, names: tuple[str, ...], events: int, missing: tuple[str, ...]) -> Finding:
        order = np.argsort(-measure.attribution, kind="stable")
        attribution = {names[place]: float(measure.attribution[place]) for place in order}
        most = f"most in {next(iter(attribution))}"
        reason = f"p = {measure.p_value:.3g} of {events} events, effect {measure.effect:.3f}, {most}"
        verdict = Verdict(
            question=self._question(),
            outcome=Outcome.FAIL if measure.p_value <= self.settings.alpha else Outcome.PASS,
            reason=reason + (f"; {len(missing)} columns are missing" if missing else ""),
            value=measure.p_value,
            limit=self.settings.alpha,
        )
        return Finding(
            method=self.settings.method,
            verdict=verdict,
            events=events,
            statistic=measure.statistic,
            p_value=measure.p_value,
            effect=measure.effect,
            attribution=attribution,
            missing=missing,
        )

    def _question(self) -> str:
        return f"{self.settings.method} against release {self.reference.release[:12]}"


def fit(settings: Settings, reference: Sample) -> Detector:
    """The detector of `settings` for one reference. Raises UserError for an unknown method or a broken reference."""
    if settings.method not in METHODS:
        raise UserError(f"no drift detector {settings.method!r}; {nearest(settings.method, METHODS)}")
    if len(reference.values) < settings.min_events or not np.isfinite(reference.values).all():
        raise UserError(
            f"the drift reference of release {reference.release[:12]!r} has {len(reference.values)} rows or numbers "
            f"that are not finite; at least {settings.min_events} finite rows are needed: "
            "export with more validation data"
        )
    kept = np.ones(len(reference.columns), bool)
    return Detector(settings, reference, _fit(settings.method, reference, kept))


def _fit(method: str, reference: Sample, kept: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Fitted:
    return METHODS[method](reference.values[:, kept], reference.predictions, len(reference.classes))


def _same_release(reference: Sample, window: Sample) -> None:
    if window.release != reference.release or window.columns != reference.columns:
        raise UserError(
            f"a window of release {window.release[:12]!r} with {len(window.columns)} columns does not belong to the "
            f"reference of {reference.release[:12]!r} with {len(reference.columns)}; compare a release with its own"
        )


def _usable(
    values: Values,
) -> tuple[Values, np.ndarray[tuple[int], np.dtype[np.bool_]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """(complete rows [m, kept], columns that are there [k], rows that are complete [n])."""
    finite = np.isfinite(values)
    kept = finite.sum(axis=0) > len(values) * (1 - MISSING_SHARE)
    rows = finite[:, kept].all(axis=1)
    return values[rows][:, kept], kept, rows
