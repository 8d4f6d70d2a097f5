"""The promises of the rollout judge, simulated: `python -m benchmarks.rollout_evidence [--plot FILE]`.

Prints the tables of RESULTS.md and exits with 1 when a bar is missed. One core, a few minutes.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import beta

from benchmarks import rollout_errors, rollout_late, rollout_plot, rollout_power, rollout_rivals
from benchmarks.rollout_rivals import ARGO, FLAGGER, SINGLE, Rule, Traffic
from core.evidence import judge
from core.evidence.judge import Judge, Metric
from core.evidence.strata import Observation, events

ALPHA, ALPHA_PROMOTE, METRICS = 0.01, 0.05, 6
ROLLOUTS = 2000
RUNS = 400
SHARES = (0.05, 0.10, 0.50)
BUDGET = 50_000
SEED = 20240607

Bars = Iterator[tuple[str, bool]]
"""Name of each bar and whether it is met."""


def interval(hits: int, runs: int) -> tuple[float, float]:
    """Clopper-Pearson 95 % interval of a rate."""
    low = beta.ppf(0.025, hits, runs - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, runs - hits) if hits < runs else 1.0
    return float(low), float(high)


def errors(rng: np.random.Generator) -> Bars:
    """False rollbacks and false promotions."""
    print("| candidate | what counts | limit | found | 95 % interval |\n|---|---|---|---|---|")
    equal = rollout_errors.equal(ROLLOUTS)
    cases = [
        ("equal to stable (A/A)", equal, "rolled back", ALPHA),
        ("all six metrics at the margin", equal + rollout_errors.MARGIN, "rolled back", ALPHA),
        ("one metric at the margin", rollout_errors.one_at_margin(ROLLOUTS), "promoted", ALPHA_PROMOTE),
    ]
    for name, excess, what, limit in cases:
        crossed = rollout_errors.simulate(excess, ALPHA / METRICS, ALPHA_PROMOTE, rng)
        wrong = crossed.harm.any(axis=1) if what == "rolled back" else crossed.fit.all(axis=1)
        hits = int(wrong.sum())
        low, high = interval(hits, ROLLOUTS)
        print(
            f"| {name} | {what} | {limit:.1%} | {hits}/{ROLLOUTS} = {hits / ROLLOUTS:.2%} | {low:.2%} to {high:.2%} |"
        )
        yield f"{name}: {what} <= {limit:.0%}", hits <= limit * ROLLOUTS


def samples(rng: np.random.Generator) -> Bars:
    """Requests until rollback against the bound, and power within a budget."""
    tables = {share: rollout_power.table(share, ALPHA / METRICS, RUNS, rng) for share in SHARES}
    heads = [f"+{harm:.0%}" for harm in rollout_power.HARMS]
    for share, table in tables.items():
        print(f"\nMean requests until rollback / bound (bound in brackets), candidate's share {share:.0%}:\n")
        print("| base rate | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 1))
        for base in rollout_power.BASES:
            row = [delay for case, delay in table.items() if case.base == base]
            print(f"| {base:.1%} | " + " | ".join(f"{d.ratio:.2f} ({d.bound:,.0f})" for d in row) + " |")
    print(f"\nRolled back within {BUDGET:,} requests, share 10 %:\n")
    print("| base rate | " + " | ".join(heads) + " |\n|" + "---|" * (len(heads) + 1))
    for base in rollout_power.BASES:
        row = [delay for case, delay in tables[0.10].items() if case.base == base]
        print(f"| {base:.1%} | " + " | ".join(f"{(d.requests <= BUDGET).mean():.0%}" for d in row) + " |")
    ratios = np.array([delay.ratio for table in tables.values() for delay in table.values()])
    print(f"\nOver all {len(ratios)} cells: median {np.median(ratios):.2f}, worst {ratios.max():.2f}.")
    yield "requests / bound: median <= 1.6", bool(np.median(ratios) <= 1.6)
    yield "requests / bound: worst <= 2.0", bool(ratios.max() <= 2.0)


def rivals() -> Bars:
    """Bad answers served before rollback, judge over threshold rules; the documented rules carry the bar."""
    cycle, flat = Traffic(0.01, 0.6), Traffic(0.01, 0.0)
    rows: list[tuple[str, Rule, Traffic, float, float, bool]] = [
        ("tolerated candidates", FLAGGER, cycle, 0.01, 0.01, True),
        ("tolerated candidates", ARGO, cycle, 0.01, 0.01, True),
        ("equal candidates, margin 0.05 %", FLAGGER, cycle, 0.0005, 0.0, True),
        ("equal candidates, margin 0.05 %", ARGO, cycle, 0.0005, 0.0, True),
        ("tolerated candidates, no daily cycle", FLAGGER, flat, 0.01, 0.01, False),
        ("tolerated candidates, no daily cycle", ARGO, flat, 0.01, 0.01, False),
        ("equal candidates, margin 0.05 %, stable 0.3 % bad", FLAGGER, Traffic(0.003, 0.6), 0.0005, 0.0, False),
        ("tolerated candidates", SINGLE, cycle, 0.01, 0.01, False),
    ]
    heads = [f"+{harm:.0%}" for harm in rollout_rivals.HARMS]
    print("\n| rule | equal false alarms on | its limit | judge's own | " + " | ".join(heads) + " |")
    print("|" + "---|" * (4 + len(heads)))
    for what, rule, traffic, margin, tolerated, barred in rows:
        tuned = rollout_rivals.calibrated(rule, traffic, tolerated, ALPHA, SEED)
        found = rollout_rivals.ratios(tuned, traffic, margin, tolerated, ALPHA, RUNS // 2, SEED)
        fresh = np.random.default_rng(SEED)
        own = rollout_rivals.judged(traffic, tolerated, margin, ALPHA, 2 * RUNS, fresh).rolled_back.mean()
        cells = " | ".join(f"{x:.2f}" for x in found)
        print(f"| {rule.name} | {what} | {tuned.limit:.2%} | {own:.1%} | {cells} |")
        alpha = rollout_rivals.level(traffic, tolerated, margin, ALPHA, SEED + 1)
        again = rollout_rivals.ratios(tuned, traffic, margin, tolerated, alpha, RUNS // 2, SEED)
        print(f"| | the judge tuned too, to alpha {alpha:.2g} | | 1.0% | {' | '.join(f'{x:.2f}' for x in again)} |")
        if barred:
            yield f"bad answers against {rule.name}, {what}: at most half", max(found) <= 0.5
    documented = rollout_rivals.threshold(FLAGGER, cycle, 0.0, RUNS, np.random.default_rng(SEED)).rolled_back.mean()
    print(f"\nFlagger's documented limit of 1 % rolls back {documented:.0%} of equal candidates on this traffic.")


def speed(rng: np.random.Generator) -> Bars:
    """Time of one look and its findings for six metrics, one of them a mix of 16 classes."""
    metrics = [Metric(name=f"m{i}", margin=0.01) for i in range(METRICS - 1)]
    spec = Judge(metrics=(*metrics, Metric(name="mix", margin=0.05, categories=16, guard=True)))
    state, taken = judge.begin(spec), []
    for _ in range(3000):
        seen = {m.name: events(180, int(rng.binomial(180, 0.02)), 20, int(rng.binomial(20, 0.02))) for m in metrics}
        mix = [tuple(rng.multinomial(n, np.full(16, 1 / 16)).tolist()) for n in (180, 20)]
        begun = time.perf_counter()
        state = judge.look(spec, state, seen | {"mix": Observation(stable=mix[0], candidate=mix[1])})
        judge.findings(spec, state)
        taken.append(time.perf_counter() - begun)
    median, late = np.median(taken) * 1e3, np.percentile(taken, 99) * 1e3
    print(f"\nJudge, {METRICS} metrics, per look: median {median:.2f} ms, 99 % {late:.2f} ms.")
    yield "judge's median look <= 1 ms", bool(median <= 1)


def main() -> int:
    """Runs everything; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="also write the figure of docs/rollouts.md here (.svg)")
    arguments = parser.parse_args()
    rng, begun = np.random.default_rng(SEED), time.perf_counter()
    bars = [*errors(rng), *samples(rng), *rivals(), *speed(rng)]
    rollout_late.report(RUNS // 4, rng)
    if arguments.plot:
        rollout_plot.draw(arguments.plot, np.random.default_rng(SEED))
    print(f"\n{time.perf_counter() - begun:.0f} s\n")
    for name, met in bars:
        print(f"{'met   ' if met else 'MISSED'} {name}")
    return 0 if all(met for _, met in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
