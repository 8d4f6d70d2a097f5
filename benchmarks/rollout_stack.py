"""Rollouts on a whole stack: `python -m benchmarks.rollout_stack [--rollouts 50] [--rounds 8]`.

First what mirroring 10 % costs the clients: p99 at 30 % of the highest rate, with and without it in turns of 6 s, at a
fixed rate of requests whose time counts from when they were due. Then rollouts of candidates that are copies of stable
(the colour model of the tests), compressed to seconds: how many are rolled back, where at most 1 % may be.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np

from serving.rollout.spec import Routing
from serving.rollout.state import Phase
from tests.rollout_home import Rolling, Traffic
from tests.stack_home import until
from titrate.rollouts import control
from titrate.rollouts.router import EnvoyRouter
from titrate.rollouts.servers import StackServers
from titrate.stack.control import down, up

CLIENTS, SECONDS, SHARE, BAR = 8, 6.0, 0.3, 1.15


def main() -> None:
    """Print both results; exits 1 when mirroring costs more than the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        rolling = Rolling(Path(scratch))
        try:
            up(rolling.home)
            met = not options.rounds or mirroring(rolling, options.rounds)
            if options.rollouts:
                equals(rolling, options.rollouts)
        finally:
            down(rolling.home)
    sys.exit(0 if met else 1)


def mirroring(rolling: Rolling, rounds: int) -> bool:
    """Whether the bar is met."""
    candidate = rolling.release("none", "mirror")
    servers, router = StackServers(rolling.home, "pills"), EnvoyRouter(rolling.home, "pills", Routing())
    servers.start(candidate)
    until(lambda: servers.report(candidate).ready)
    highest = len(_times(rolling, None, SECONDS)) / SECONDS
    rate = SHARE * highest
    found = []
    for turn in range(rounds):
        p99 = {}
        for percent in (0, 10) if turn % 2 else (10, 0):
            router.shadow(percent)
            until(lambda percent=percent: router.observed_weight().shadow == percent)
            p99[percent] = float(np.quantile(_times(rolling, rate, SECONDS), 0.99))
        print(f"p99 {p99[0] * 1e3:.1f} ms, with 10 % mirrored {p99[10] * 1e3:.1f} ms")
        found.append(p99[10] / p99[0])
    servers.stop(candidate)
    middle, low, high = statistics.median(found), *np.quantile(found, [0.25, 0.75])
    print(f"highest rate {highest:.0f}/s with {CLIENTS} clients; at {rate:.0f}/s:")
    print(
        f"p99 with 10 % mirrored over p99 without: median {middle:.2f}, quartiles {low:.2f} to {high:.2f} of {rounds}"
    )
    return middle <= BAR


def _times(rolling: Rolling, rate: float | None, seconds: float) -> list[float]:
    """Seconds from when each request was due to its answer; None: as fast as the clients can."""
    found: list[float] = []
    began = time.monotonic()

    def ask(number: int) -> None:
        with httpx.Client(timeout=30) as client:
            turn = number
            while (now := time.monotonic() - began) < seconds:
                due = turn / rate if rate else now
                time.sleep(max(0.0, due - now))
                assert rolling.ask(client)[0] == httpx.codes.OK
                found.append(time.monotonic() - began - due)
                turn += CLIENTS

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def equals(rolling: Rolling, rollouts: int) -> None:
    """Rollouts of equal candidates under traffic; prints how they ended."""
    ends: Counter[str] = Counter()
    began = time.monotonic()
    with Traffic(rolling) as traffic:
        for number in range(rollouts):
            spec = rolling.spec(rolling.release("none", f"equal {number}"), slow_ms=50.0)
            state = rolling.ended(control.start(rolling.home, spec))
            ends[state.phase.value if state.phase is Phase.PROMOTED else state.reason.partition(":")[0]] += 1
            if (number + 1) % 5 == 0:
                print(f"{number + 1} rollouts: {dict(ends)}", flush=True)
    minutes = (time.monotonic() - began) / 60
    total = traffic.answers.total()
    print(f"{rollouts} rollouts of equal candidates in {minutes:.0f} min, {total:,} requests: {dict(ends)}")
    print(f"failed requests: {len(traffic.failed)}")


if __name__ == "__main__":
    main()
