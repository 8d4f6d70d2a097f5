"""Seconds from the first death of a crash-looping candidate until Envoy gives everything to stable: bar 5 s.

`python -m benchmarks.rollout_crash [--rounds 5]`: the whole stack under traffic, a candidate at 50 % whose model ends
after a hundred requests, again and again. What its clients saw meanwhile is counted: stable answers in its place.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from serving.rollout.spec import Routing, Step
from tests.rollout_home import Rolling, Traffic
from tests.stack_home import until
from titrate.rollouts import control
from titrate.rollouts.router import EnvoyRouter
from titrate.stack.control import down, status, up

BAR = 5.0
WITHIN = 60.0


def main() -> None:
    """Print each round and the median; exits 1 when a round takes longer than the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        rolling = Rolling(Path(scratch))
        try:
            up(rolling.home)
            found = [_round(rolling, number) for number in range(rounds)]
        finally:
            down(rolling.home)
    print(f"median {statistics.median(found):.2f} s, longest {max(found):.2f} s of {rounds} (bar {BAR:g})")
    sys.exit(0 if max(found) <= BAR else 1)


def _round(rolling: Rolling, number: int) -> float:
    candidate = rolling.release("crashing", f"round {number}")
    router = EnvoyRouter(rolling.home, "pills", Routing())
    with Traffic(rolling) as traffic:
        journal = control.start(rolling.home, rolling.spec(candidate, steps=(Step(shadow=5), Step(weight=50))))
        until(lambda: _deaths(rolling, candidate), WITHIN)
        died = time.monotonic()
        until(lambda: _is_stable(router), WITHIN)
        took = time.monotonic() - died
        state = rolling.ended(journal)
    total, failed = traffic.answers.total(), len(traffic.failed)
    print(f"{took:.2f} s; {failed} of {total:,} requests failed; {state.reason}", flush=True)
    return took


def _deaths(rolling: Rolling, candidate: str) -> int:
    """How often the candidate's server ended."""
    return sum(one.ends for one in status(rolling.home) if one.name == f"triton-pills-{candidate[:8]}")


def _is_stable(router: EnvoyRouter) -> bool:
    found = router.observed_weight()
    return found.weights is not None and (found.weights.stable, found.weights.candidate, found.shadow) == (100, 0, 0)


if __name__ == "__main__":
    main()
