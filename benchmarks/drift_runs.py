"""The monitor of `serving/drift` over many streams at once, and run lengths of any detector.

`one_sample` adds logarithms of one stream; here the same R_t = E_t (R_(t-1) + 1) is computed in plain numbers for a
whole batch of streams, some ten times faster. `check` compares the two, and each benchmark begins with it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.evidence import one_sample
from serving.drift.monitor import WRONG, Watched

Array = NDArray[np.float64]


class Batch(NamedTuple):
    """Streams that are each watched by limits of their own; limits are those of `Watched.hits`, then wrong answers."""

    step: Array
    """float64 [streams, limits, alternatives]: log E gains this with every event beyond."""
    base: Array
    """log E of one event that is not beyond; same shape."""
    share: Array
    """float64 [streams, limits * alternatives, 1]: part of the average; 0 for a limit that is left out."""
    together: int

    @classmethod
    def of(cls, watched: list[Watched]) -> "Batch":
        """Of releases that have the same limits or fewer."""
        size = max(len(one.names()) for one in watched) + 1
        rates, weights = np.full((len(watched), size), 0.5), np.zeros((len(watched), size))
        for row, one in enumerate(watched):
            limits = {limit.name: limit for limit in one.monitor.limits}
            for place, name in enumerate([*one.names(), *[WRONG] * (size - len(one.names()))]):
                if name in limits and (name != WRONG or place == size - 1):
                    rates[row, place], weights[row, place] = limits[name].rate, limits[name].weight
        base, full = (one_sample.log_e(np.ones_like(rates), np.full_like(rates, hit), rates) for hit in (0, 1))
        full[weights == 0] = base[weights == 0] = -1.0  # no weight, and no overflow
        alternatives = base.shape[-1]
        share = np.repeat(weights / weights.sum(axis=1, keepdims=True) / alternatives, alternatives, axis=1)
        return cls(full - base, base, share[..., None], watched[0].settings.together)

    def begin(self) -> Array:
        """R before the first update."""
        return np.zeros(self.base.shape)

    def update(self, old: Array, n: Array, k: Array, labelled: Array, wrong: Array) -> Array:
        """R after an update of `n` events [streams], `k` of them beyond [streams, limits but the labels].

        `labelled` answers [streams], `wrong` of them wrong. No observation of a limit: unchanged.
        """
        beyond = np.concatenate([k / self.together, wrong[:, None]], axis=1)
        count = np.repeat((n / self.together)[:, None], beyond.shape[1], axis=1)
        count[:, -1] = labelled
        log_e = beyond[..., None] * self.step
        log_e += count[..., None] * self.base
        new = np.exp(log_e, out=log_e)
        new *= old + 1
        return np.where(count[..., None] > 0, new, old)

    def evidence(self, r: Array) -> Array:
        """The weighted mean over limits [streams]: an alarm at 1/alpha."""
        return np.asarray((r.reshape(len(r), 1, -1) @ self.share)[:, 0, 0])


def check(watched: Watched, rng: np.random.Generator) -> None:
    """Assert that a batch of one says what `one_sample` says."""
    batch, monitor = Batch.of([watched]), watched.monitor
    r, state, names = batch.begin(), one_sample.begin(monitor), watched.names()
    for _ in range(30):
        n = rng.integers(0, 12)
        k, wrong = rng.binomial(n, 0.2, len(names)).astype(float), rng.binomial(n // 2, 0.2)
        by_name = dict(zip(names, k / watched.settings.together, strict=True))
        counts = {item.name: (n / watched.settings.together, by_name[item.name]) for item in monitor.limits[:-1]}
        state = one_sample.observe(monitor, state, {**counts, WRONG: (n // 2, wrong)})
        r = batch.update(r, *(np.array([float(x)]) for x in [n]), k[None], np.array([n // 2.0]), np.array([wrong]))
        np.testing.assert_allclose(np.log(batch.evidence(r)), [one_sample.evidence(monitor, state)], atol=1e-9)


def first_passage(statistic: Array, limit: float) -> NDArray[np.int64]:
    """First update, from 1, at which each stream [streams, updates] passes `limit`; 0: never."""
    passed = statistic >= limit
    return np.where(passed.any(axis=1), passed.argmax(axis=1) + 1, 0)


def run_length(statistic: Array, limit: float) -> float:
    """Average run length in updates, of streams that were cut: all updates until then over all alarms."""
    first = first_passage(statistic, limit)
    return float(np.where(first > 0, first, statistic.shape[1]).sum() / max(1, (first > 0).sum()))


def calibrated(statistic: Array, updates: float) -> float:
    """The lowest limit at which quiet streams [streams, updates] have this average run length."""
    peaks = np.sort(np.maximum.accumulate(statistic, axis=1)[:, -1])
    candidates = np.unique(
        np.concatenate([peaks, np.quantile(statistic[np.isfinite(statistic)], np.linspace(0.9, 1, 400))])
    )
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if run_length(statistic, candidates[middle]) >= updates else (middle + 1, high)
    return float(candidates[low])
