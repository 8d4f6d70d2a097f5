"""Bad answers served before rollback: the judge against threshold rules as Flagger and Argo Rollouts document them.

A threshold rule looks at the candidate alone: its rate of bad answers in the last minutes, against a fixed number. It
knows neither stable's rate nor the hour, so the number that keeps false alarms rare must be chosen for the worst hour.
Here it gets the best number there is: calibrated on the very traffic of the test, to the false-alarm rate of the judge.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from core.evidence import mixture, two_sample
from core.evidence.bernoulli import Array
from core.evidence.two_sample import Look

REQUESTS_PER_S = 50
SHARES = (0.05, 0.25, 0.50)
MINUTES_PER_SHARE = 10
LOOK_S = 5
"""Seconds between looks of the judge; threshold rules look each minute or slower, as documented."""
HARMS = (0.01, 0.02, 0.05, 0.10, 0.20, 0.50, 0.90)
CALIBRATION_RUNS = 4000


class Traffic(NamedTuple):
    """Stable's rate of bad answers: a daily cycle of relative height `swing`, at a phase drawn per rollout."""

    base: float
    swing: float

    def rates(self, runs: int, rng: np.random.Generator) -> Callable[[float], Array]:
        """Rates [runs] as a function of the minute."""
        phase = rng.random(runs)
        return lambda minute: self.base * (1 + self.swing * np.sin(2 * np.pi * (minute / 1440 + phase)))


class Rule(NamedTuple):
    """Roll back after `failures` failed checks; a check fails when more than `limit` of the window's answers are bad.
    A step is left after ten minutes of passed checks."""

    name: str
    failures: int
    every_min: int
    limit: float


FLAGGER = Rule("Flagger: 5 failed checks of 1 min", 5, 1, 0.01)
ARGO = Rule("Argo: failureLimit 3, window 5 min", 4, 5, 0.05)
SINGLE = Rule("one failed check of 1 min", 1, 1, 0.01)


class Served(NamedTuple):
    """Of each run: the candidate's bad answers until rollback or the end, and whether it was rolled back."""

    bad: Array
    rolled_back: Array


def threshold(rule: Rule, traffic: Traffic, excess: float, runs: int, rng: np.random.Generator) -> Served:
    """Rollouts judged by `rule`, the candidate `excess` above stable."""
    rates = traffic.rates(runs, rng)
    passed, failures, bad = np.zeros(runs), np.zeros(runs, int), np.zeros(runs)
    window, running = np.zeros((2, runs)), np.ones(runs, bool)
    end = MINUTES_PER_SHARE * len(SHARES)
    for minute in range(2 * end):
        step = np.minimum(passed // MINUTES_PER_SHARE, len(SHARES) - 1).astype(int)
        n = rng.poisson(60 * REQUESTS_PER_S * np.array(SHARES)[step])
        k = rng.binomial(n, np.minimum(rates(minute) + excess, 1))
        active = running & (passed < end)
        bad += k * active
        window += n, k
        if (minute + 1) % rule.every_min == 0:
            failed = active & (window[1] > rule.limit * window[0])
            failures += failed
            passed += np.where(failed, 0, rule.every_min)
            running &= failures < rule.failures
            window[:] = 0
    return Served(bad, ~running)


def judged(traffic: Traffic, excess: float, margin: float, alpha: float, runs: int, rng: np.random.Generator) -> Served:
    """The same rollouts judged by the e-process of one metric at level `alpha`."""
    bad, running = np.zeros(runs), np.ones(runs, bool)
    for k_c, harm in _looks(traffic, excess, margin, runs, rng):
        bad += k_c * running
        running &= harm < np.log(1 / alpha)
        if not running.any():
            break
    return Served(bad, ~running)


def level(traffic: Traffic, tolerated: float, margin: float, alpha: float, seed: int) -> float:
    """The nominal alpha at which the judge too rolls back a share `alpha` of candidates `tolerated` above stable.

    It holds on this traffic only: no promise any more, as that of a calibrated rule is none.
    """
    highest = np.full(CALIBRATION_RUNS, -np.inf)
    for _, harm in _looks(traffic, tolerated, margin, CALIBRATION_RUNS, np.random.default_rng(seed)):
        highest = np.maximum(highest, harm)
    return float(np.exp(-np.quantile(highest, 1 - alpha)))


def _looks(
    traffic: Traffic, excess: float, margin: float, runs: int, rng: np.random.Generator
) -> Iterator[tuple[Array, Array]]:
    """(the candidate's bad answers, evidence of harm) at each look of the judge, [runs] each."""
    rates = traffic.rates(runs, rng)
    evidence, seen, margins = two_sample.start((runs,)), np.zeros((2, runs)), np.full(runs, margin)
    for second in range(0, 60 * MINUTES_PER_SHARE * len(SHARES), LOOK_S):
        share = SHARES[second // (60 * MINUTES_PER_SHARE)]
        n_s, n_c = (rng.poisson(LOOK_S * REQUESTS_PER_S * part, runs) for part in (1 - share, share))
        rate = rates(second / 60)
        k_s, k_c = rng.binomial(n_s, rate), rng.binomial(n_c, np.minimum(rate + excess, 1))
        evidence = two_sample.update(evidence, margins, *seen, Look(*(x.astype(float) for x in (n_s, k_s, n_c, k_c))))
        seen += n_s, k_s
        yield k_c, mixture.mean(evidence.harm)


def calibrated(rule: Rule, traffic: Traffic, tolerated: float, alpha: float, seed: int) -> Rule:
    """The rule with the smallest limit that rolls back candidates `tolerated` above stable at most alpha often."""
    low, high = 0.0, 1.0
    for _ in range(14):
        middle = (low + high) / 2
        trial = rule._replace(limit=middle)
        served = threshold(trial, traffic, tolerated, CALIBRATION_RUNS, np.random.default_rng(seed))
        low, high = (middle, high) if served.rolled_back.mean() > alpha else (low, middle)
    return rule._replace(limit=high)


def ratios(
    rule: Rule, traffic: Traffic, margin: float, excess: float, alpha: float, runs: int, seed: int
) -> list[float]:
    """Mean bad answers of the judge over those of the rule, for each of HARMS above `excess`."""
    result = []
    for harm in HARMS:
        rng = np.random.default_rng(seed)
        ours = judged(traffic, excess + harm, margin, alpha, runs, rng)
        theirs = threshold(rule, traffic, excess + harm, 4 * runs, rng)
        result.append(float(ours.bad.mean() / theirs.bad.mean()))
    return result
