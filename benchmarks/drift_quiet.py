"""The promise of quiet: 500 simulated quarters (90 days) of a release that does not drift, with its own monitor.

Simulated data. Each quarter has a world, a reference and events of its own, all drawn anew; the limits are those of
`Watched.fit` and the evidence that of `core/evidence/one_sample`. A world has 6 classes, 8 image statistics and an
embedding of 8 numbers, correlated, with a mean per class. A Poisson number of events comes, one a minute on average,
and is looked at every 10 minutes; 20 % get a label, with 13 % of the answers wrong where 15 % are tolerated.

Daily cycles are part of quiet: every image statistic moves by up to 0.2 of its standard deviation, with a phase of its
own, and the embedding on a circle, in no direction by more than 0.2 of that one's (a share of 50 % moves by 8 points),
the classes' shares by up to 15 % of themselves (2 to 4 points) and the wrong answers by up to 2 points, which is to the
tolerated 15 %. After an alarm the monitor starts again with the same reference.

Bar: at most one alarm a quarter on average, which is the default promise (90 days per alarm). Beside it, not
judged: events that come in sittings, in which 1 to 10 follow each other and look exactly the same, and cycles of twice
the size.
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from benchmarks import drift_runs
from benchmarks.drift_runs import Array, Batch
from serving.drift.monitor import Settings, Watched
from serving.drift.sample import Sample

DAYS = 90
EVERY = 600.0
"""Seconds between two updates."""
UPDATES = 144
"""Of a day."""
CLASSES, STATISTICS, EMBEDDING = 6, 8, 8
REFERENCE = 1000
LABELLED, WRONG, TOLERATED, WRONG_CYCLE = 0.2, 0.13, 0.15, 0.02
MIX_CYCLE = 0.15
CHUNK = 25
"""Quarters at once."""
SEED = 20_260_807


class Case(NamedTuple):
    """One row of the table."""

    name: str
    quarters: int
    cycle: float
    """Height of the columns' daily cycle, standard deviations."""
    sitting: int
    """Largest number of events of one sitting; 1: all events are independent."""
    together: int
    """What the monitor is told of it, of the events."""
    reference: int
    """And of the reference, which is taken in sittings like the events'."""
    judged: bool = False


CASES = (
    Case("independent events", 500, 0.2, 1, 1, 1, judged=True),
    Case("independent events, cycles of twice the size", 100, 0.4, 1, 1, 1),
    Case("sittings: counted as independent", 50, 0.2, 10, 1, 1),
    Case("sittings: events counted by tens (the default)", 100, 0.2, 10, 10, 1),
    Case("sittings: events and reference counted by tens", 100, 0.2, 10, 10, 10),
)


class World(NamedTuple):
    """Where the events of one quarter come from."""

    mix: Array
    mix_phase: Array
    means: Array
    """[classes, columns]"""
    mixing: Array
    """[columns, columns]"""
    phase: Array
    """Of each image statistic's cycle."""
    spread: Array
    """Standard deviation of each image statistic, all classes together."""
    circle: Array
    """[2, embedding]: where the embedding moves in the course of the day, no direction by more than its deviation."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "World":
        """A world with unequal classes; about a third of the variance is between them."""
        columns = STATISTICS + EMBEDDING
        mix = rng.dirichlet(np.full(CLASSES, 10.0))
        means = rng.normal(0, 0.7, (CLASSES, columns))
        mixing = np.eye(columns) + rng.normal(0, 0.3, (columns, columns))
        between = mix @ (means - mix @ means) ** 2
        spread = np.sqrt(between + (mixing**2).sum(axis=0))[EMBEDDING:]
        plane, _ = np.linalg.qr(rng.normal(size=(EMBEDDING, 2)))
        circle = (np.linalg.cholesky((mixing.T @ mixing)[:EMBEDDING, :EMBEDDING]) @ plane).T
        return cls(mix, rng.random(CLASSES), means, mixing, rng.random(STATISTICS), spread, circle)

    def events(
        self, at: Array, cycle: float, sitting: int, rng: np.random.Generator
    ) -> tuple[Array, NDArray[np.int64]]:
        """(values [n, columns], answers [n]) of events at these times [n], in days."""
        starts = np.arange(len(at))
        if sitting > 1:
            ends = rng.integers(1, sitting + 1, len(at)).cumsum()
            starts = np.concatenate([[0], ends])[ends.searchsorted(starts, side="right")]
        places, inverse = np.unique(starts, return_inverse=True)
        when = at[places]
        turn = 2 * np.pi * when[:, None]
        shares = self.mix * (1 + MIX_CYCLE * np.sin(turn + 2 * np.pi * self.mix_phase))
        below = (shares / shares.sum(axis=1, keepdims=True)).cumsum(axis=1)
        answers = np.minimum((rng.random(len(when))[:, None] > below).sum(axis=1), CLASSES - 1)
        values = self.means[answers] + rng.standard_normal((len(when), STATISTICS + EMBEDDING)) @ self.mixing
        values[:, :EMBEDDING] += cycle * np.hstack([np.cos(turn), np.sin(turn)]) @ self.circle
        values[:, EMBEDDING:] += cycle * self.spread * np.sin(turn + 2 * np.pi * self.phase)
        return values[inverse], answers[inverse]


def watched(world: World, case: Case, rng: np.random.Generator) -> Watched:
    """The monitor of a fresh reference, whose rows were taken at any time of day, in sittings like the events'."""
    at = np.sort(rng.random(REFERENCE)) if case.sitting == 1 else np.repeat(rng.random(REFERENCE), case.sitting)
    values, answers = world.events(at[:REFERENCE], case.cycle, case.sitting, rng)
    names = [f"embedding_{place}" for place in range(EMBEDDING)] + [f"statistic_{x}" for x in range(STATISTICS)]
    sample = Sample("simulated", tuple(names), values, answers, tuple("abcdef"))
    settings = Settings(every_seconds=EVERY, together=case.together, reference_together=case.reference)
    return Watched.fit(sample, TOLERATED, settings)


class Day(NamedTuple):
    """Counts of the updates of one day of several quarters."""

    n: Array
    """[quarters, updates]"""
    k: Array
    """[quarters, updates, limits]"""
    labelled: Array
    wrong: Array


def day(worlds: list[World], monitors: list[Watched], case: Case, rng: np.random.Generator) -> Day:
    """A day's events, counted per update by the monitors' own rules."""
    n = rng.poisson(EVERY / 60, (len(worlds), UPDATES))
    k = []
    for counts, world, monitor in zip(n, worlds, monitors, strict=True):
        update = np.repeat(np.arange(UPDATES), counts)
        at = (update + 0.5) / UPDATES
        _, beyond = monitor.hits(*world.events(at, case.cycle, case.sitting, rng))
        total = np.zeros((len(update) + 1, beyond.shape[1]), np.int32)
        np.cumsum(beyond, axis=0, out=total[1:])
        k.append(np.diff(total[np.concatenate([[0], counts.cumsum()])], axis=0))
    labelled = rng.binomial(n, LABELLED)
    rate = WRONG + WRONG_CYCLE * np.sin(2 * np.pi * np.arange(UPDATES) / UPDATES)
    return Day(n.astype(float), np.stack(k).astype(float), labelled.astype(float), rng.binomial(labelled, rate) * 1.0)


def quarters(case: Case, count: int, seed: int) -> NDArray[np.int64]:
    """Alarms of each of `count` quarters."""
    rng = np.random.default_rng((SEED, seed))
    worlds = [World.draw(rng) for _ in range(count)]
    monitors = [watched(world, case, rng) for world in worlds]
    batch, limit = Batch.of(monitors), 1 / monitors[0].monitor.alpha
    r, alarms = batch.begin(), np.zeros(count, np.int64)
    for _ in range(DAYS):
        seen = day(worlds, monitors, case, rng)
        for update in range(UPDATES):
            r = batch.update(r, *(part[:, update] for part in seen))
            over = batch.evidence(r) >= limit
            alarms += over
            r[over] = 0
    return alarms


def interval(events: int) -> tuple[float, float]:
    """Exact 95 % interval of a Poisson mean (Garwood 1936)."""
    low = chi2.ppf(0.025, 2 * events) / 2 if events else 0.0
    return float(low), float(chi2.ppf(0.975, 2 * events + 2) / 2)


def simulate(case: Case, pool: ProcessPoolExecutor) -> bool:
    """Run one case and print its row; whether its bar is met."""
    begun, number = time.perf_counter(), CASES.index(case) if case in CASES else 0
    jobs = [
        pool.submit(quarters, case, min(CHUNK, case.quarters - first), 1000 * number + first)
        for first in range(0, case.quarters, CHUNK)
    ]
    alarms = np.concatenate([job.result() for job in jobs])
    low, high = interval(int(alarms.sum()))
    seconds = time.perf_counter() - begun
    print(
        f"| {case.name} | {case.quarters} | {alarms.sum()} | {low:.1f} to {high:.1f} | {(alarms > 0).sum()} | "
        f"{'at most ' + str(case.quarters) if case.judged else 'none'} | {seconds:.0f} |",
        flush=True,
    )
    return not case.judged or int(alarms.sum()) <= case.quarters


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the quarters that are run")
    scale = parser.parse_args().scale
    rng = np.random.default_rng(SEED)
    drift_runs.check(watched(World.draw(rng), CASES[0], rng), rng)
    print("| quiet quarters of | quarters | alarms | 95 % interval | quarters with one | bar | s |")
    print("|---|---|---|---|---|---|---|")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        good = [simulate(case._replace(quarters=max(1, int(case.quarters * scale))), pool) for case in CASES]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
