"""How much the edge carries, what it does beyond, what mirroring costs, and whether memory grows: `make bench-knee`.

ResNet-18 int8 at 96 px through Envoy, requests at fixed rates (Poisson) whose time counts from when they were due
(clients.py, one process, on the loopback). The knee is the highest rate of a bounded step-up at which all are answered
with a p99 below 300 ms: eight batches of 8 on a processor with AVX2 alone. Exits with 1 where a bar is missed.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.clients import Answer, closed, fixed, photograph, upload, v2
from benchmarks.serving import CLIENTS, Bars, ok
from benchmarks.serving_home import Bench

SIDE, STEP, STEPS, P99 = 96, 4.0, (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), 0.3
BEYOND, BEYOND_SECONDS = 2.0, 8.0
PAIRS, PAIR_SECONDS, MIRRORED = 6, 5.0, 10
SLOWEST = 4.0
"""Seconds: what may be in flight and wait (512) at 150 answers/s, and slack."""


def quantile(answers: list[Answer], share: float) -> float:
    """Seconds."""
    return float(np.quantile([answer.seconds for answer in answers], share))


def knee(bench: Bench, request: bytes) -> float:
    """The rate of the knee, answers/s; prints a row for each step."""
    highest = len(ok(closed(bench.edge, request, CLIENTS, STEP))) / STEP
    print(f"{CLIENTS} clients without pause: {highest:.0f}/s\n")
    print("| rate, /s | of that | answered | p50, ms | p95, ms | p99, ms |\n|---|---|---|---|---|---|")
    found = STEPS[0] * highest
    for share in STEPS:
        answers = fixed(bench.edge, request, share * highest, STEP)
        good = [answer for answer in answers if answer.status == 200]
        times = " | ".join(f"{quantile(good, q) * 1e3:.0f}" for q in (0.5, 0.95, 0.99))
        print(f"| {share * highest:.0f} | {share:.0%} | {len(good)}/{len(answers)} | {times} |", flush=True)
        if len(good) < len(answers) or quantile(good, 0.99) > P99:
            break
        found = share * highest
    print(f"\nknee: {found:.0f}/s\n")
    return found


def beyond(bench: Bench, request: bytes, rate: float, bars: Bars) -> None:
    """Refused with a time to come back, and nobody waits longer the longer it lasts."""
    answers = fixed(bench.edge, request, rate, BEYOND_SECONDS)
    good = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status in (429, 503)]
    name = f"{rate:.0f}/s for {BEYOND_SECONDS:g} s"
    bars.at_most(f"{name}: neither answered nor refused", [len(answers) - len(good) - len(refused)], 0, ".0f")
    bars.at_least(f"{name}: refused with Retry-After", [sum(one.again for one in refused) / max(1, len(refused))], 1)
    print(f"| {name}: refused | {len(refused) / len(answers):.0%} | | |")
    bars.at_most(f"{name}: slowest answer, s", [quantile(good, 1.0)], SLOWEST)
    after = [a.seconds for a in ok(fixed(bench.edge, request, 0.2 * rate, 3.0))]
    bars.at_most("just after it, at a tenth of that: p50, ms", [statistics.median(after) * 1e3], P99 * 1e3, ".0f")


def mirroring(bench: Bench, request: bytes, rate: float, bars: Bars) -> None:
    """p99 with 10 % mirrored over p99 without, at 30 % of the knee, in turns."""
    found = []
    for pair in range(PAIRS):
        p99 = {}
        for shadow in (0, MIRRORED) if pair % 2 else (MIRRORED, 0):
            bench.weigh(shadow=shadow, stable=100, candidate=0)
            p99[shadow] = quantile(ok(fixed(bench.edge, request, rate, PAIR_SECONDS, pair)), 0.99)
        found.append(p99[MIRRORED] / p99[0])
    bars.at_most(f"p99 with {MIRRORED} % mirrored over without, {rate:.0f}/s, {PAIRS} pairs", found, 1.15)


def soak(bench: Bench, rate: float, seconds: float, bars: Bars) -> None:
    """Memory of every server at half the knee, V2 and one upload in ten: last quarter over the second."""
    seen: dict[str, list[float]] = {name: [] for name in bench.pids}
    end = time.monotonic() + seconds

    def watch() -> None:
        while time.monotonic() < end:
            for name, size in bench.memory().items():
                seen[name].append(size)
            time.sleep(1)

    uploads = threading.Thread(target=lambda: ok(fixed(bench.edge, upload(photograph(SIDE)), rate / 10, seconds, 1)))
    watcher = threading.Thread(target=watch)
    for thread in (watcher, uploads):
        thread.start()
    ok(fixed(bench.edge, v2(photograph(SIDE)), rate, seconds))
    for thread in (watcher, uploads):
        thread.join()
    for name, sizes in seen.items():
        part = len(sizes) // 4
        early, late = statistics.median(sizes[part : 2 * part]), statistics.median(sizes[-part:])
        bars.at_most(f"soak of {seconds:.0f} s, {name}: {late:.0f} MiB, growth", [late / early], 1.05, ".3f")


def main() -> int:
    """Print the tables; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the soak")
    seconds: float = parser.parse_args().seconds
    request = v2(photograph(SIDE))
    with ExitStack() as stack:
        bench = Bench(stack, Path(stack.enter_context(tempfile.TemporaryDirectory())), SIDE)
        ok(closed(bench.edge, request, CLIENTS, 2))
        found = knee(bench, request)
        bars = Bars()
        soak(bench, 0.5 * found, seconds, bars)
        beyond(bench, request, BEYOND * found, bars)
        bench.add_candidate()
        mirroring(bench, request, 0.3 * found, bars)
        return int(bars.missed > 0)


if __name__ == "__main__":
    sys.exit(main())
