"""Drift detectors against alibi-detect: CPU time for the same statistic; 512 columns, reference 1000, window 1000.

Bars: Kolmogorov-Smirnov 15 x, MMD 30 x (100 permutations on both sides), a window of 1,000 events within 50 ms.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
from alibi_detect import cd

from serving.drift import ks, mmd

ROUNDS = 5


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    rng = np.random.default_rng(1)
    old, new = rng.normal(size=(1000, 512)), rng.normal(size=(1000, 512))
    none = np.zeros(1000, np.int64)
    ours_ks, ours_mmd = ks.Ks.fit(old, none, 1), mmd.Mmd.fit(old, none, 1)._replace(permutations=100)
    narrow = new.astype(np.float32)
    theirs_ks, theirs_mmd = (
        cd.KSDrift(old.astype(np.float32)),
        cd.MMDDrift(old.astype(np.float32), backend="pytorch", n_permutations=100),
    )
    good = _row("ks", 15, lambda: ours_ks.measure(new, none), lambda: theirs_ks.predict(narrow))
    good &= _row("mmd", 30, lambda: ours_mmd.measure(new, none), lambda: theirs_mmd.predict(narrow))
    return 0 if good else 1


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
