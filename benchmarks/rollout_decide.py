"""Time of one look (decide with its judge, 6 metrics) early and late in a rollout. Bar: 1 ms, at any length.

    python benchmarks/rollout_decide.py [--looks 20000]

Prints the median and the 95 % CPU time of the first and the last thousand looks, their ratio, and the state's size.
"""

import argparse
import statistics
import sys
import time

import numpy as np

from core.slo import Slo
from serving.rollout.engine import begin, decide
from serving.rollout.metrics import Compared
from serving.rollout.observations import CandidateReport, Observation, Reading, Result, RouterReport
from serving.rollout.presets import preset
from serving.rollout.spec import RolloutSpec, Step
from serving.rollout.state import Phase, RolloutState
from serving.rollout.weights import shares

BAR_MS = 1.0
METRICS = 6
RATE = {"stable": 450, "candidate": 50}
"""Requests of each arm in a look."""


def spec() -> RolloutSpec:
    """Six metrics, in a step that does not end."""
    made = preset("canary", workload="pills", stable="s", candidate="c", slo=Slo.load("pills"), classes=("a", "b", "c"))
    mine = Compared(name="refunds", margin=0.01, query={"language": "sql", "bad": "select 1", "total": "select 2"})
    metrics = tuple(m for m in made.metrics if m.kind != "agreement")
    step = Step(weight=10, bake_seconds=1e8, deadline_seconds=1e9)
    return made.model_copy(update={"metrics": (*metrics, mine), "slices": (), "checks": (), "steps": (step,)})


def stepping(asked: RolloutSpec) -> RolloutState:
    """A state whose candidate has its weight."""
    state = begin(asked, "bench")
    results: tuple[Result, ...] = ()
    for number in range(1, 6):
        report = RouterReport(weights=shares(asked, state.weight), shadow=0)
        ready = CandidateReport(ready=True)
        look = Observation(sequence=number, at=number, router=report, candidate=ready, results=results)
        decision = decide(asked, state, [look])
        state = decision.state
        results = tuple(Result(action=a.id, ok=True, payload={}) for a in decision.actions)
    assert state.phase is Phase.STEPPING, state.phase
    return state


def observations(asked: RolloutSpec, first: int, looks: int, rng: np.random.Generator) -> list[Observation]:
    """Looks with all metrics of both arms growing."""
    totals = {(arm, name): np.zeros(size, int) for arm in RATE for name, size in asked.sizes.items()}
    report, ready = RouterReport(weights=shares(asked, 10), shadow=0), CandidateReport(ready=True)
    made = []
    for number in range(first, first + looks):
        for (arm, _), total in totals.items():
            shares_of = [0.01, 0.99] if len(total) == 2 else [1 / len(total)] * len(total)
            total += rng.multinomial(RATE[arm], shares_of)
        readings = [
            Reading(
                source="bench",
                arm=arm,
                stamp=number,
                counts={name: tuple(int(n) for n in totals[arm, name]) for name in asked.sizes},
                eligible={"accuracy": int(totals[arm, "accuracy"].sum())},
            )
            for arm in RATE
        ]
        made.append(
            Observation(sequence=number, at=5 * number, router=report, candidate=ready, readings=tuple(readings))
        )
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--looks", type=int, default=20_000)
    looks = parser.parse_args().looks
    asked = spec()
    assert len(asked.metrics) == METRICS
    state = stepping(asked)
    times, sizes = [], []
    for seen in observations(asked, state.seen + 1, looks, np.random.default_rng(1)):
        began = time.thread_time()
        state = decide(asked, state, [seen]).state
        times.append((time.thread_time() - began) * 1e3)
        if seen.sequence % 1000 == 0:
            sizes.append(len(state.model_dump_json()))
    assert state.phase is Phase.STEPPING, state.reason
    ends = {"first": times[:1000], "last": times[-1000:]}
    median = {name: statistics.median(part) for name, part in ends.items()}
    for name, part in ends.items():
        print(f"{name} 1000 looks: median {median[name]:.3f} ms, 95 % {np.quantile(part, 0.95):.3f} ms")
    print(f"last / first: {median['last'] / median['first']:.2f}; state {sizes[0]} -> {sizes[-1]} bytes")
    met = median["last"] <= BAR_MS
    print(f"bar: median <= {BAR_MS} ms at look {looks}: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
