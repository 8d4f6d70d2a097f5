"""What is measured of a classifier: sums while it trains, and the numbers of a release from all its answers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

BINS = 15
"""Of the reliability diagram (Guo et al. 2017 use 15)."""


def sums(outputs: "Tensor", targets: "Tensor") -> "dict[str, Tensor]":
    """Over a batch: `loss` (cross-entropy), `score` (right answers: top-1) and `top5`, each a float64 scalar."""
    import torch

    ranked = outputs.topk(min(5, outputs.shape[1]), dim=1).indices == targets[:, None]
    return {
        "loss": torch.nn.functional.cross_entropy(outputs.float(), targets, reduction="sum").double(),
        "score": ranked[:, 0].sum().double(),
        "top5": ranked.sum().double(),
    }


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities [n, classes]."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def ranks(scores: Floats, targets: Labels) -> Labels:
    """The place of the right label among the scores of each row, 1 for the highest; ties count against it."""
    own = scores[np.arange(len(targets)), targets]
    above = (scores >= own[:, None]).sum(axis=1)
    found: Labels = above.astype(np.int64)
    return found


def top_k(scores: Floats, targets: Labels, k: int) -> float:
    """Share of rows whose label is among the `k` highest scores."""
    return float((ranks(scores, targets) <= k).mean())


def mean_average_precision(scores: Floats, targets: Labels) -> float:
    """Mean over the rows of the average precision of the ranked labels; one label is right, so it is 1 / its rank."""
    return float((1 / ranks(scores, targets)).mean())


def macro_auc(scores: Floats, targets: Labels) -> float:
    """Mean over the classes of the area under one-against-rest ROC (Mann-Whitney U, ties half).

    A class without rows, or with all of them, has no area and is left out; NaN when none is left.
    """
    areas = [_auc(scores[:, label], targets == label) for label in np.unique(targets)]
    found = [area for area in areas if area is not None]
    return float(np.mean(found)) if found else float("nan")


def _auc(scores: Floats, positive: NDArray[np.bool_]) -> float | None:
    ups, downs = int(positive.sum()), int((~positive).sum())
    if not ups or not downs:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    return float((mean_rank[place][positive].sum() - ups * (ups + 1) / 2) / (ups * downs))


def confusion(predicted: Labels, targets: Labels, classes: int) -> Labels:
    """int64 [classes, classes]: rows are true labels, columns answers."""
    flat = np.bincount(targets * classes + predicted, minlength=classes * classes)
    table: Labels = flat.reshape(classes, classes).astype(np.int64)
    return table


def per_class(table: Labels) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each class from a confusion matrix; 0 where nothing is there to divide by."""
    right, rows, columns = np.diag(table).astype(float), table.sum(axis=1), table.sum(axis=0)
    precision = right / np.maximum(columns, 1)
    recall = right / np.maximum(rows, 1)
    f1 = 2 * right / np.maximum(rows + columns, 1)
    return precision, recall, f1


def reliability(confidence: Floats, right: NDArray[np.bool_]) -> tuple[Floats, Floats, Labels]:
    """Mean confidence, accuracy and rows in each of BINS equal bins of the confidence; NaN in empty bins."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    rows = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, confidence, BINS) / rows
        accuracy = np.bincount(place, right, BINS) / rows
    return mean, accuracy, rows


def calibration_error(confidence: Floats, right: NDArray[np.bool_]) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy over the bins (Guo et al. 2017)."""
    mean, accuracy, rows = reliability(confidence, right)
    filled = rows > 0
    return float((np.abs(mean - accuracy)[filled] * rows[filled]).sum() / max(1, rows.sum()))


def bootstrap(values: Floats, groups: Labels, draws: int = 2000, seed: int = 0) -> Interval:
    """Mean of `values` (0..1) with its 95 % interval, by drawing whole groups (cluster bootstrap, Field & Welsh 2007).

    Rows of one group are not independent: drawing rows would make the interval too narrow. Where all values are 0 or
    all are 1 every draw is alike, and the exact bound of that many groups is given (Clopper & Pearson 1934).
    """
    names, place = np.unique(groups, return_inverse=True)
    totals, rows = np.bincount(place, values), np.bincount(place)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    means = (drawn @ totals) / np.maximum(drawn @ rows, 1)
    low, high = np.quantile(means, (0.025, 0.975))
    bound = 0.025 ** (1 / len(names))
    low = min(low, bound) if values.min() == 1 else low
    high = max(high, 1 - bound) if values.max() == 0 else high
    return Interval(float(values.mean()), float(low), float(high))
