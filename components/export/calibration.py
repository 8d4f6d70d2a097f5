"""Probabilities that mean what they say, and when to say nothing; both fitted on rows that selected nothing."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

TEMPERATURES = np.geomspace(0.2, 5.0, 321)
"""Steps of 1 %; outside of it a network is broken, not miscalibrated."""
LEAST_COVERAGE = 0.5
"""Share of the rows that are answered at least: a model that must abstain more is for the gate to refuse."""


def temperature(logits: Floats, targets: Labels) -> float:
    """What the logits are divided by so that the probabilities are the most likely ones (Guo et al. 2017, 4.2).

    Targets are softened by 1 / (n + 2), as in Platt 1999: a few rows that are all right do not prove certainty.
    1.0 when there are no rows.
    """
    rows, classes = logits.shape
    if not rows:
        return 1.0
    doubt = 1 / (rows + 2)
    wanted = np.full((rows, classes), doubt / classes)
    wanted[np.arange(rows), targets] += 1 - doubt
    losses = [-(wanted * _log_softmax(logits / value)).sum(axis=1).mean() for value in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def abstain_below(confidence: Floats, right: NDArray[np.bool_], wanted: float) -> float:
    """The confidence under which an answer is flagged.

    The lowest one at which the answers above it are right in a share of `wanted`, but not under the least confident
    right answer (what is less sure than anything that was right is not to be trusted), and never so high that less
    than LEAST_COVERAGE is answered. 0.0 when there are no rows, or none right.
    """
    if not right.any():
        return 0.0
    order = np.argsort(-confidence, kind="stable")
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    kept = np.flatnonzero(accuracy >= wanted)
    answered = max(int(kept[-1]) + 1 if len(kept) else 0, int(np.ceil(LEAST_COVERAGE * len(order))))
    return float(max(confidence[order][answered - 1], confidence[right].min()))


def softmax(logits: Floats) -> Floats:
    """Probabilities [n, classes]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
