"""Maximum mean discrepancy: sees moves that no single column shows; all permutations are one matrix product.

Unbiased MMD^2 with a Gaussian kernel and the median heuristic (Gretton et al. 2012), on columns in units of the
reference's standard deviation.
"""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from serving.drift.measure import Measure
from serving.drift.sample import Classes, Values

PERMUTATIONS = 999
SEED = 20_260_801
"""Of the permutations: the same window gets the same p-value."""
Floats = NDArray[np.float32]


class Mmd(NamedTuple):
    """A reference with its kernel."""

    mean: Values
    spread: Values
    rows: Floats
    """[n, k], standardised."""
    width: float
    """Sigma of the kernel, squared."""
    own: Floats
    """Kernel of the reference with itself [n, n]."""
    permutations: int = PERMUTATIONS

    @classmethod
    def fit(cls, values: Values, predictions: Classes, classes: int) -> Self:
        """Standardise, find the median distance, keep the reference's own kernel."""
        spread = values.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        rows = ((values - values.mean(axis=0)) / spread).astype(np.float32)
        distances = _squares(rows, rows)
        middle = len(rows) + (len(rows) ** 2 - len(rows)) // 2 - 1
        width = max(0.5 * float(np.partition(distances, middle, axis=None)[middle]), 1e-12)
        return cls(values.mean(axis=0), spread, rows, width, _kernel(distances, width))

    def measure(self, values: Values, predictions: Classes) -> Measure:
        """MMD^2, its permutation p-value (never 0), and which standardised means moved."""
        rows = ((values - self.mean) / self.spread).astype(np.float32)
        across, inside = (_kernel(_squares(other, rows), self.width) for other in (self.rows, rows))
        alike = (self.own.mean() + inside.mean()) / 2
        found, shuffled = _statistics(self.own, across, inside, self.permutations)
        p_value = (1 + int((shuffled >= found).sum())) / (1 + self.permutations)
        effect = float(np.clip(found / (2 * alike), 0, 1))
        moved = np.abs(rows.mean(axis=0, dtype=float) - self.rows.mean(axis=0, dtype=float))
        return Measure(found, p_value, effect, moved / (1 + moved))


def _squares(first: Floats, second: Floats) -> Floats:
    """Squared distances, float32 [n, m]."""
    sums = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)
    sums -= 2 * (first @ second.T)
    return np.asarray(np.maximum(sums, 0, out=sums))


def _kernel(squares: Floats, width: float) -> Floats:
    squares = squares * np.float32(-0.5 / width)
    return np.asarray(np.exp(squares, out=squares))


def _statistics(own: Floats, across: Floats, inside: Floats, permutations: int) -> tuple[float, Values]:
    """MMD^2 of a window [m] against a reference [n], and of random choices of m rows: (value, float64 [permutations]).

    Kernels of the reference [n, n], between both [n, m] and of the window [m, m]. A constant taken off the kernel
    cancels in MMD^2, and keeps float32 sums exact enough. The whole kernel is symmetric: a quarter of it is not needed.
    """
    n, m = across.shape
    blocks = [block - across.mean() for block in (own, across, inside)]
    for square in (blocks[0], blocks[2]):
        np.fill_diagonal(square, 0)
    chosen = _chosen(n, m, permutations)
    old, new = chosen[:, :n], chosen[:, n:]
    pairs = zip(blocks, (old, old, new), (old, new, new), (1, 2, 1), strict=True)
    within = sum(times * ((one @ block) * other).sum(axis=1, dtype=float) for block, one, other, times in pairs)
    rows = np.concatenate([blocks[0].sum(axis=1, dtype=float), blocks[2].sum(axis=1, dtype=float)])
    rows += np.concatenate([blocks[1].sum(axis=1, dtype=float), blocks[1].sum(axis=0, dtype=float)])
    both = chosen.astype(float) @ rows
    without = rows.sum() - 2 * both + within
    values = without / (n * (n - 1)) + within / (m * (m - 1)) - 2 * (both - within) / (n * m)
    return float(values[0]), values[1:]


def _chosen(n: int, m: int, permutations: int) -> Floats:
    """1 where a row belongs to the window [1 + permutations, n + m]: first as it is, then drawn."""
    chosen = np.zeros((permutations + 1, n + m), np.float32)
    chosen[0, n:] = 1
    random = np.random.default_rng(SEED).random((permutations, n + m), dtype=np.float32)
    np.put_along_axis(chosen[1:], np.argpartition(random, m, axis=1)[:, :m], np.float32(1), axis=1)
    return chosen
