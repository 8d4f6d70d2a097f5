"""Drift detectors against alibi-detect: CPU time for the same statistic; 512 columns, reference 1000, window 1000.

One thread on both sides: CPU time does not then count threads that wait for each other.
Bars: Kolmogorov-Smirnov 15 x, MMD 30 x (100 permutations on both sides), a window of 1,000 events within 50 ms.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from alibi_detect import cd
from threadpoolctl import threadpool_limits

from serving.drift import ks, mmd
from serving.drift.sample import Values

ROUNDS = 5


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    rng = np.random.default_rng(1)
    old, new = rng.normal(size=(1000, 512)), rng.normal(size=(1000, 512))
    none = np.zeros(1000, np.int64)
    ours_ks, ours_mmd = ks.Ks.fit(old, none, 1), mmd.Mmd.fit(old, none, 1)._replace(permutations=100)
    narrow = new.astype(np.float32)
    theirs_ks, theirs_mmd = (
        cd.KSDrift(old.astype(np.float32)),
        cd.MMDDrift(old.astype(np.float32), backend="pytorch", n_permutations=100),
    )
    print("| statistic | ours | alibi-detect | alibi-detect : ours | bar |\n|---|---|---|---|---|")
    _same(ours_ks.distances(new), theirs_ks.predict(narrow)["data"]["distance"], 1e-6)
    _same(ours_mmd.measure(new, none).statistic, _standardised(ours_mmd, new), 1e-6)
    good = _row("ks", 15, lambda: ours_ks.measure(new, none), lambda: theirs_ks.predict(narrow))
    good &= _row("mmd", 30, lambda: ours_mmd.measure(new, none), lambda: theirs_mmd.predict(narrow))
    return 0 if good else 1


def _standardised(ours: mmd.Mmd, new: Values) -> float:
    """alibi-detect's MMD^2 of the columns in the units of ours."""
    rows = ((new - ours.mean) / ours.spread).astype(np.float32)
    detector = cd.MMDDrift(ours.rows, backend="pytorch", n_permutations=1)
    return float(detector.predict(rows)["data"]["distance"])


def _same(ours: object, theirs: object, within: float) -> None:
    """Assert that both found the same statistic."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=within)


def _row(name: str, bar: float, ours: Callable[[], object], theirs: Callable[[], object]) -> bool:
    pairs = np.array([(_cpu(ours), _cpu(theirs)) for _ in range(ROUNDS)])
    ratios = pairs[:, 1] / pairs[:, 0]
    mine, other, ratio = *np.median(pairs, axis=0) * 1e3, float(np.median(ratios))
    spread = f"{ratio:.1f} ({ratios.min():.1f} to {ratios.max():.1f})"
    print(f"| {name} | {mine:.1f} ms | {other:.0f} ms | {spread} | {bar:g} |")
    return ratio >= bar and mine <= 50


def _cpu(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
