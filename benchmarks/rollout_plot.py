"""The figure of docs/rollouts.md: evidence over a rollout, and requests needed against the information bound."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks import rollout_power
from benchmarks.rollout_power import MARGIN, Case
from core.evidence import mixture, two_sample
from core.evidence.bernoulli import Array
from core.evidence.two_sample import Look

ALPHA = 0.01 / 6
PATHS, LOOKS, SIZE = 12, 120, 400
"""Rollouts drawn of each kind, looks of each, requests of each look."""


def draw(path: Path, rng: np.random.Generator) -> None:
    """Writes the figure; the suffix of `path` chooses the format."""
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "titrate"
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    _evidence(left, rng)
    _needed(right, rng)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _evidence(axes: Axes, rng: np.random.Generator) -> None:
    sent = SIZE * np.arange(1, LOOKS + 1) / 1000
    kinds = [
        (0.0, "tab:green", "as good as stable"),
        (0.01, "tab:gray", "at the margin"),
        (0.03, "tab:red", "2 pp beyond"),
    ]
    for excess, colour, name in kinds:
        lines = axes.plot(sent, _paths(excess, rng), color=colour, linewidth=0.8, alpha=0.7)
        lines[0].set_label(name)
    axes.axhline(np.log(1 / ALPHA), color="black", linestyle="--", linewidth=1, label="roll back")
    axes.set(xlabel="requests of both arms, thousands", ylabel="evidence of harm, nats", ylim=(-12, 14))
    axes.set_title("Stable 2 % bad, margin 1 pp, share 10 %", fontsize=10)
    axes.legend(fontsize=8)


def _paths(excess: float, rng: np.random.Generator) -> Array:
    """log evidence [LOOKS, PATHS]."""
    evidence, seen, path = two_sample.start((PATHS,)), np.zeros((2, PATHS)), []
    for _ in range(LOOKS):
        n_c = rng.binomial(SIZE, 0.1, PATHS)
        counts = (SIZE - n_c, rng.binomial(SIZE - n_c, 0.02), n_c, rng.binomial(n_c, 0.02 + excess))
        look = Look(*(part.astype(float) for part in counts))
        evidence = two_sample.update(evidence, np.full(PATHS, MARGIN), *seen, look)
        seen = seen + np.stack([look.n_s, look.k_s])
        path.append(mixture.mean(evidence.harm))
    return np.array(path)


def _needed(axes: Axes, rng: np.random.Generator) -> None:
    for base in rollout_power.BASES:
        found = [rollout_power.delay(Case(base, harm, 0.1), ALPHA, 100, rng).ratio for harm in rollout_power.HARMS]
        axes.plot(100 * np.array(rollout_power.HARMS), found, marker="o", markersize=4, label=f"stable {base:.1%} bad")
    axes.axhline(1, color="black", linewidth=1)
    axes.set(
        xscale="log", xlabel="harm beyond the margin, pp", ylabel="mean requests / information bound", ylim=(0.9, 2.1)
    )
    axes.set_xticks([1, 2, 5, 10, 20], labels=["1", "2", "5", "10", "20"])
    axes.set_title("No sequential test of the same error needs fewer than 1", fontsize=10)
    axes.legend(fontsize=8)
