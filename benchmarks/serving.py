"""What serving costs beside the same work without a server: `make bench-serving`; 1 where a bar of ours is missed.

Everything in one run: a raw loop (two processes, batches of 8, raw.py), V2 at Triton's own port, V2 through Envoy with
all filters of the default policy and a rate limit that nobody reaches, the same with 90/10 weights over two Tritons,
and uploads at the gateway. 50 clients on keep-alive connections (clients.py); the paths take turns, medians of 5 rounds
with their range. Ratios are within a round. CPU is that of all servers together, per answer; the clients' own, which
shares the cores, is not in it.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import raw
from benchmarks.clients import Answer, closed, fixed, http, photograph, upload, v2
from benchmarks.serving_grpc import comparison
from benchmarks.serving_home import Bench

CLIENTS, SECONDS, ROUNDS, CORES = 50, 2.0, 5, 2
BARS = {96: {"cpu": 1.20, "rate": 0.85}, 224: {"cpu": 1.10, "rate": 0.92}}
SPLIT, CANDIDATE = 20_000, 10
RAW, TRITON, EDGE, SPLIT_EDGE, UPLOAD = (
    "raw loop",
    "V2 > Triton",
    "V2 > Envoy > Triton",
    "V2 > Envoy, 90/10",
    "upload > Envoy > gateway > Envoy",
)
Figures = dict[str, dict[str, list[float]]]


class RawLoop:
    """The work itself, in one process a core."""

    def __init__(self, stack: ExitStack, folder: Path, side: int, image: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        for _ in range(CORES):
            ours, theirs = context.Pipe()
            process = context.Process(target=raw.loop, args=(folder, side, image, theirs))
            process.start()
            stack.callback(process.join)
            stack.callback(ours.send, None)
            ours.recv()
            self._pipes.append(ours)

    def run(self, batch: int, seconds: float, processes: int = CORES) -> tuple[int, float, list[float]]:
        """(images, CPU seconds, seconds of each call) of all processes."""
        for pipe in self._pipes[:processes]:
            pipe.send((batch, seconds))
        found = [pipe.recv() for pipe in self._pipes[:processes]]
        return sum(one[0] for one in found), sum(one[1] for one in found), [t for one in found for t in one[2]]


def ok(answers: list[Answer]) -> list[Answer]:
    """All of them; raises SystemExit when one is no answer."""
    if wrong := {answer.status for answer in answers} - {200}:
        raise SystemExit(f"answers with status {wrong}")
    return answers


def measure(bench: Bench, loop: RawLoop, side: int) -> Figures:
    """For each path, by round: `rate` answers/s, `cpu` us, `p99` and `one` (p50 of a single client), seconds."""
    image = photograph(side)
    asked = v2(image)
    triton = bench.tritons["stable"].ports.http
    paths: dict[str, Callable[[float], list[Answer]]] = {
        TRITON: lambda seconds: closed(triton, asked, CLIENTS, seconds),
        EDGE: lambda seconds: closed(bench.edge, asked, CLIENTS, seconds),
        SPLIT_EDGE: lambda seconds: closed(bench.edge, asked, CLIENTS, seconds),
        UPLOAD: lambda seconds: closed(bench.edge, upload(image), CLIENTS, seconds),
    }
    figures: Figures = {name: {"rate": [], "cpu": [], "p99": [], "one": []} for name in (RAW, *paths)}
    for number in range(ROUNDS + 1):  # the first one warms up
        seconds = SECONDS if number else 0.5
        count, cpu, times = loop.run(8, seconds)
        single = loop.run(1, 0.5, processes=1)[2]
        row(figures[RAW], CORES * count / sum(times), cpu / count, 0.0, single)
        for name, ask in paths.items():
            split = name == SPLIT_EDGE
            bench.weigh(stable=100 - CANDIDATE * split, candidate=CANDIDATE * split)
            before, began = bench.cpu(), time.monotonic()
            times = [answer.seconds for answer in ok(ask(seconds))]
            spent, took = bench.cpu() - before, time.monotonic() - began
            port = {TRITON: triton, EDGE: bench.edge}.get(name)
            one = [answer.seconds for answer in closed(port, asked, 1, 0.5)] if port else [0.0]
            row(figures[name], len(times) / took, spent / len(times), float(np.quantile(times, 0.99)), one)
    return {name: {key: values[1:] for key, values in found.items()} for name, found in figures.items()}


def row(into: dict[str, list[float]], rate: float, cpu: float, p99: float, one: list[float]) -> None:
    """Add a round's figures."""
    for key, value in (("rate", rate), ("cpu", cpu * 1e6), ("p99", p99), ("one", statistics.median(one))):
        into[key].append(value)


def against(figures: Figures, name: str, base: str, key: str) -> list[float]:
    """The ratio of two paths in each round."""
    return [one / other for one, other in zip(figures[name][key], figures[base][key], strict=True)]


def spread(values: list[float], form: str = ".2f") -> str:
    """Median and range."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


class Bars:
    """A table of what was asked and found."""

    def __init__(self) -> None:
        self.missed = 0
        print("| | found | bar | |\n|---|---|---|---|")

    def at_most(self, name: str, values: list[float], bar: float, form: str = ".2f") -> None:
        """The median must not exceed `bar`."""
        self._row(name, values, f"<= {bar:g}", statistics.median(values) <= bar, form)

    def at_least(self, name: str, values: list[float], bar: float) -> None:
        """The median must reach `bar`."""
        self._row(name, values, f">= {bar:g}", statistics.median(values) >= bar, ".2f")

    def _row(self, name: str, values: list[float], bar: str, met: bool, form: str) -> None:
        self.missed += not met
        print(f"| {name} | {spread(values, form)} | {bar} | {'met' if met else '**missed**'} |")


def table(figures: Figures) -> None:
    """A row for each path."""
    print("\n| path | answers/s | : raw | CPU, us | : raw |\n|---|---|---|---|---|")
    for name, found in figures.items():
        rate, cpu = (spread(against(figures, name, RAW, key)) for key in ("rate", "cpu"))
        print(f"| {name} | {spread(found['rate'], '.0f')} | {rate} | {spread(found['cpu'], '.0f')} | {cpu} |")
    print()


def judge(bars: Bars, figures: Figures, side: int) -> None:
    """Compare with the bars; those through Envoy against raw are goals that are in the table alone."""
    bars.at_most("V2 at Triton: CPU : raw", against(figures, TRITON, RAW, "cpu"), BARS[side]["cpu"])
    bars.at_least("V2 at Triton: answers/s : raw", against(figures, TRITON, RAW, "rate"), BARS[side]["rate"])
    bars.at_most("one client, V2 at Triton: p50 : raw", against(figures, TRITON, RAW, "one"), 1.5)
    bars.at_most("V2 through Envoy: CPU : raw (goal)", against(figures, EDGE, RAW, "cpu"), 1.55)
    bars.at_least("V2 through Envoy: answers/s : raw (goal)", against(figures, EDGE, RAW, "rate"), 0.68)
    bars.at_least("90/10 : one arm, answers/s", against(figures, SPLIT_EDGE, EDGE, "rate"), 0.88)
    bars.at_most("90/10 : one arm, p99", against(figures, SPLIT_EDGE, EDGE, "p99"), 1.3)
    bars.at_most("upload : V2 through Envoy, CPU", against(figures, UPLOAD, EDGE, "cpu"), 1.6)


def split_and_load(bars: Bars, bench: Bench, figures: Figures, side: int) -> None:
    """The split over 20,000 requests, and the times at 60 % of what 50 clients got through Envoy."""
    bench.weigh(stable=100 - CANDIDATE, candidate=CANDIDATE)
    empty, arms = http(b"/v2/models/pills/infer", b'{"inputs": []}'), []
    while len(arms) < SPLIT:  # Triton refuses them without running the network
        arms += [answer.arm for answer in closed(bench.edge, empty, CLIENTS, 1.0)]
    off = abs(100 * arms[:SPLIT].count("candidate") / SPLIT - CANDIDATE)
    bars.at_most(f"90/10, {SPLIT:,} requests that Triton refuses at once: off by, pp", [off], 0.2)
    bench.weigh(stable=100, candidate=0)
    rate = 0.6 * statistics.median(figures[EDGE]["rate"])
    runs = [[a.seconds * 1e3 for a in ok(fixed(bench.edge, v2(photograph(side)), rate, 5, seed))] for seed in range(3)]
    for quantile, bar in ((0.95, 50.0), (0.99, 100.0)):
        found = [float(np.quantile(run, quantile)) for run in runs]
        bars.at_most(f"Envoy at 60 % ({rate:.0f}/s, Poisson): p{quantile * 100:.0f}, ms", found, bar, ".0f")


def main() -> int:
    """Print the tables; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=96, choices=BARS, help="of the JPEG and the network, pixels")
    side: int = parser.parse_args().side
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(stack, folder, side)
        for request in (v2(photograph(side)), upload(photograph(side))):
            ok(closed(bench.edge, request, CLIENTS, 1))
        memory = bench.memory()
        bench.add_candidate()
        loop = RawLoop(stack, bench.models / "pills" / "1", side, photograph(side))
        figures = measure(bench, loop, side)
        print(f"{side} px JPEG, {CLIENTS} clients, {ROUNDS} rounds of {SECONDS:g} s")
        table(figures)
        bars = Bars()
        judge(bars, figures, side)
        split_and_load(bars, bench, figures, side)
        told = ", ".join(f"{name} {size:.0f}" for name, size in memory.items())
        bars.at_most(f"memory, MiB PSS ({told})", [sum(memory.values())], 700, ".0f")
        print(f"\n{comparison(bench)}")
        return int(bars.missed > 0)


if __name__ == "__main__":
    sys.exit(main())
