"""Rivals of the monitor on many streams: alibi-detect's online detectors and an hourly Kolmogorov-Smirnov rule.

alibi-detect fits its detectors, their kernels and their limits over time; its statistic after every event is computed
here for whole streams, some fifty times faster than one event at a time. `check` compares it with `predict`.
"""

import itertools
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from alibi_detect import cd
from numpy.typing import NDArray

from serving.drift import ks

Array = NDArray[np.float64]
Rows = NDArray[np.float32]
Ints = NDArray[np.int64]
HOUR = 60


class Rival(Protocol):
    """What the benchmark asks of a detector."""

    def statistic(self, rows: Rows, places: Ints) -> Array:
        """After each event of streams that take rows at `places` [streams, events]; less the limit at that time."""
        ...


class Hourly(NamedTuple):
    """The largest distance of any column at the end of each hour: Bonferroni's p-value falls as it grows."""

    reference: ks.Ks

    def statistic(self, rows: Rows, places: Ints) -> Array:
        """-inf within the hours."""
        found = np.full(places.shape, -np.inf)
        for stream, end in itertools.product(range(len(places)), range(HOUR, places.shape[1] + 1, HOUR)):
            found[stream, end - 1] = self.reference.distances(rows[places[stream, end - HOUR : end]]).max()
        return found


class Mmd(NamedTuple):
    """A fitted MMDDriftOnline."""

    detector: Any

    def statistic(self, rows: Rows, places: Ints) -> Array:
        """Squared MMD of the last `window` events and the reference, less the limit."""
        inner = self.detector._detector
        window, scale = inner.window_size, 0.5 / float(inner.kernel.sigma) ** 2
        known, first = (inner.x_ref[places].numpy() for places in (inner.ref_inds, inner.init_test_inds))
        near = np.concatenate([_kernel(part, known, scale).mean(axis=1) for part in (rows, first)])
        begin = len(rows) + np.arange(window)
        everything, found = np.concatenate([rows, first]), np.empty(places.shape)
        for stream, row in enumerate(places):
            taken = np.concatenate([begin, row])
            inside = _inside(everything[taken], window, scale)
            across = np.convolve(near[taken], np.ones(window) / window, mode="valid")
            found[stream] = (float(inner.k_xx_sub_sum) + inside - 2 * across)[1:]
        return found - _limits(inner, places.shape[1])


class Lsdd(NamedTuple):
    """A fitted LSDDDriftOnline."""

    detector: Any

    def statistic(self, rows: Rows, places: Ints) -> Array:
        """Its least-squares density difference over the last `window` events, less the limit."""
        inner = self.detector._detector
        window, scale = inner.window_size, 0.5 / float(inner.kernel.sigma) ** 2
        first, centers = inner.x_ref_eff[inner.init_test_inds].numpy(), inner.kernel_centers.numpy()
        near = _kernel(np.concatenate([inner._normalize(torch.from_numpy(rows)).numpy(), first]), centers, scale)
        begin, inverse = len(rows) + np.arange(window), inner.H_lam_inv.numpy().astype(float)
        found = np.empty(places.shape)
        for stream, row in enumerate(places):
            total = np.zeros((1 + window + len(row), near.shape[1]))
            np.cumsum(near[np.concatenate([begin, row])], axis=0, out=total[1:])
            lack = inner.c2s.numpy() - (total[window:] - total[:-window])[1:] / window
            found[stream] = ((lack @ inverse) * lack).sum(axis=1)
        return found - _limits(inner, places.shape[1])


def _kernel(first: Rows, second: Rows, scale: float) -> Array:
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return np.exp(-scale * np.maximum(squares, 0).astype(float))


def _inside(rows: Rows, window: int, scale: float) -> Array:
    """Mean kernel of different rows of each window, float64 [n - window + 1]: one comes in, one goes out."""
    into, out = np.zeros(len(rows)), np.zeros(len(rows))
    for lag in range(1, window):
        near = np.exp(-scale * ((rows[lag:] - rows[:-lag]) ** 2).sum(axis=1, dtype=float))
        into[lag:] += near
        out[:-lag] += near
    total = into[:window].sum() + np.concatenate([[0.0], (into[window:] - out[:-window]).cumsum()])
    return np.asarray(2 * total / (window * (window - 1)))


def _limits(inner: Any, events: int) -> Array:
    limits = np.array([float(limit) for limit in inner.thresholds])
    return limits[np.minimum(np.arange(1, events + 1), len(limits) - 1)]


def alibi(rows: Rows, settings: dict[str, Any]) -> dict[str, Mmd | Lsdd]:
    """Both detectors, fitted to the reference."""
    return {
        "alibi-detect MMD": Mmd(cd.MMDDriftOnline(rows, backend="pytorch", verbose=False, **settings)),
        "alibi-detect LSDD": Lsdd(cd.LSDDDriftOnline(rows, backend="pytorch", verbose=False, **settings)),
    }


def check(rival: Mmd | Lsdd, rows: Rows) -> None:
    """Assert that the statistic of a stream is what `predict` says, event by event."""
    rival.detector.reset_state()
    data = [rival.detector.predict(row)["data"] for row in rows]
    expected = [item["test_stat"] - item["threshold"] for item in data]
    np.testing.assert_allclose(rival.statistic(rows, np.arange(len(rows))[None])[0], expected, atol=1e-5)
