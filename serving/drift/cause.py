"""What an alarm is about: which kind of change, what moved, and since which event.

The alarm has been raised by `monitor.py`; here one window is described, and nothing is promised of it. Images of a new
mix of classes differ from the reference too, so columns are compared with a reference that is weighted to the mix of
answers of the window: what still moved is not explained by the mix.
"""

import math
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import spatial

from core.evidence import bernoulli
from serving.drift import ks
from serving.drift.mix import Mix
from serving.drift.sample import UNKNOWN, Sample, Values

MIX_ALPHA = 0.001
"""Of the chi-squared test of the answers."""
NOVEL, NEAR = 0.5, 0.95
"""Share of events further from the nearest row of the reference than NEAR of its own rows are from each other, above
which no mix of the reference's classes can explain them; under a new mix it stays near 1 - NEAR."""
MOVED = 0.05
"""Score (`ks.score`) above which a column counts as moved: less is not worth a name."""


class Cause(StrEnum):
    """The kinds of drift, docs/drift.md says what each asks for."""

    CAMERA = "camera change"
    """Properties of the images moved, whatever is answered."""
    COVARIATE = "covariate shift"
    """The network sees other images of the same properties: new products, another population."""
    LABEL = "label shift"
    """Other classes are asked about, and that explains whatever else moved."""
    QUALITY = "quality drop"
    """Labelled answers are wrong more often than the ladder tolerates."""
    UNNAMED = "change of no known kind"
    """A change too small or too mixed for the window to name."""


class Description(NamedTuple):
    """What one window shows."""

    causes: tuple[Cause, ...]
    """The strongest reason first; never empty."""
    columns: dict[str, float]
    """Score 0..1 of each column against the reference with the window's mix of answers, most first."""
    classes: dict[str, float]
    """Share in the window less share in the reference, -1..1, largest change first."""


def describe(reference: Sample, window: Sample, wrong: bool) -> Description:
    """Name the change of a window of complete rows [m, k]; `wrong`: labelled answers passed their limit."""
    if not len(window.values):
        return Description((Cause.QUALITY if wrong else Cause.UNNAMED,), {}, {})
    found = _beyond_the_mix(reference, window)
    order = np.argsort(-found, kind="stable")
    columns = {window.columns[place]: float(found[place]) for place in order}
    mix = Mix.fit(reference.values, reference.predictions, len(reference.classes))
    answers = mix.measure(window.values, window.predictions)
    embedded = np.array([name.startswith("embedding_") for name in window.columns])
    causes = []
    if _moved(reference, window, found, ~embedded):
        causes.append(Cause.CAMERA)
    elif _moved(reference, window, found, embedded):
        causes.append(Cause.COVARIATE)
    if answers.p_value <= MIX_ALPHA and not causes:
        causes.append(Cause.LABEL)
    if wrong:
        causes.append(Cause.QUALITY)
    return Description(tuple(causes) or (Cause.UNNAMED,), columns, _changed_classes(reference, window))


def change_point(hits: NDArray[np.bool_], limit: float) -> int:
    """Where in a sequence of hits [n] their share most likely began to exceed `limit` (0..1), for good.

    The start of the suffix with the largest log likelihood ratio m KL(k/m || limit) over its m events (Page 1954).
    """
    m = np.arange(len(hits), 0, -1)
    share = np.clip(hits[::-1].cumsum()[::-1] / m, bernoulli.EDGE, 1 - bernoulli.EDGE)
    gain = np.where(share > limit, m * bernoulli.kl(share, np.full(len(hits), limit)), 0.0)
    return int(gain.argmax())


def _moved(reference: Sample, window: Sample, scores: Values, of: NDArray[np.bool_]) -> bool:
    """Whether some of the columns `of` moved for another reason than the mix."""
    if not of.any():
        return False
    old, new = reference.values[:, of], window.values[:, of]
    return bool(scores[of].max() > MOVED) or _novelty(old, new, reference.together) > NOVEL


def _novelty(old: Values, new: Values, together: float) -> float:
    """Share of the rows `new` [m, k] that are further from the nearest of `old` [n, k] than NEAR of those are from the
    nearest that was not taken together with them."""
    spread = old.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    own = spatial.distance.cdist(old / spread, old / spread)
    np.fill_diagonal(own, np.inf)
    nearest = spatial.distance.cdist(new / spread, old / spread).min(axis=1)
    other = min(math.ceil(together), len(old) - 1) - 1
    return float((nearest > np.quantile(np.partition(own, other, axis=1)[:, other], NEAR)).mean())


def _beyond_the_mix(reference: Sample, window: Sample) -> Values:
    """`ks.score` of each column against the reference weighted to the window's answers, float64 [k]; zeros where too
    little of it is left to show anything."""
    weights = _weights(reference, window)
    size = int(weights.sum() ** 2 / (weights**2).sum() / reference.together) if weights.any() else 0
    if not size:
        return np.zeros(len(window.columns))
    return np.array(
        [
            ks.score(_distance(old, weights, new), len(window.columns), size, len(new))
            for old, new in zip(reference.values.T, window.values.T, strict=True)
        ]
    )


def _weights(reference: Sample, window: Sample) -> Values:
    """Of each row of the reference, so that its answers have the window's mix."""
    known = window.predictions[window.predictions != UNKNOWN]
    new = np.bincount(known, minlength=len(reference.classes)) / max(1, len(known))
    old = np.bincount(reference.predictions, minlength=len(reference.classes)) / len(reference.predictions)
    return np.asarray((new / np.where(old > 0, old, 1.0))[reference.predictions])


def _distance(old: Values, weights: Values, new: Values) -> float:
    """Largest difference of the weighted distribution function of `old` and that of `new`, over all values."""
    order = old.argsort()
    below = np.minimum(np.concatenate([[0.0], weights[order].cumsum() / weights.sum()]), 1.0)
    points = np.concatenate([old, new])
    ordered = np.sort(new)
    theirs = below[old[order].searchsorted(points, side="right")]
    return float(np.abs(theirs - ordered.searchsorted(points, side="right") / len(new)).max())


def _changed_classes(reference: Sample, window: Sample) -> dict[str, float]:
    known = window.predictions[window.predictions != UNKNOWN]
    new = np.bincount(known, minlength=len(reference.classes)) / max(1, len(known))
    old = np.bincount(reference.predictions, minlength=len(reference.classes)) / len(reference.predictions)
    order = np.argsort(-np.abs(new - old), kind="stable")
    return {reference.classes[place]: float(new[place] - old[place]) for place in order}
