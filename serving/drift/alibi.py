"""alibi-detect's offline detectors behind our interface, made from a name and a reference.

alibi-detect 0.13 is under the Business Source License 1.1: production use is allowed only to non-profit education.
It is imported only where settings name it; our own methods are the default. Its saved detectors run code from
`function.dill`: none is ever loaded, each is built again from the release's reference.
"""

from typing import Any, NamedTuple

import numpy as np
from alibi_detect import cd
from sklearn.linear_model import LogisticRegression

from serving.drift.measure import Measure
from serving.drift.sample import Classes, Values


class Alibi(NamedTuple):
    """One detector of alibi-detect with the scale of its reference."""

    detector: Any
    mean: Values
    spread: Values

    def measure(self, values: Values, predictions: Classes) -> Measure:
        """Its statistic and p-value; per column where it says so, else the move of the standardised means."""
        rows = ((values - self.mean) / self.spread).astype(np.float32)
        data = self.detector.predict(rows)["data"]
        distance = np.atleast_1d(np.asarray(data["distance"], float))
        p_value = float(np.min(data["p_val"]))
        if len(distance) > 1:
            worst = float(distance.max())
            return Measure(worst, min(1.0, p_value * len(distance)), worst, distance)
        moved = np.abs(rows.mean(axis=0, dtype=float))
        return Measure(float(distance[0]), p_value, float(np.clip(distance[0], 0, 1)), moved / (1 + moved))


def fit(name: str, values: Values) -> Alibi:
    """The detector `name` on the standardised reference [n, k]."""
    mean, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    rows = ((values - mean) / spread).astype(np.float32)
    return Alibi(_build(name, rows), mean, spread)


def _build(name: str, rows: Any) -> Any:
    if name == "KSDrift":
        return cd.KSDrift(rows)
    if name == "ClassifierDrift":
        return cd.ClassifierDrift(rows, LogisticRegression(C=0.01, max_iter=200), backend="sklearn", seed=0)
    return getattr(cd, name)(rows, backend="pytorch")
