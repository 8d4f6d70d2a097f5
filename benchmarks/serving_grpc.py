"""REST against gRPC with large payloads (S01): uint8 pixels through Envoy to Triton, by tritonclient.

The network sees the same 96 px whatever comes in, so what grows with the payload is transport, copies and resize.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc
import tritonclient.http

from benchmarks.clients import LOOPBACK
from benchmarks.serving_home import Bench

SIZES = ((1, 224), (1, 592), (1, 1448), (4, 1448))
"""Images and their side, pixels: 0.15, 1, 6 and 24 MiB of pixels."""
ROUNDS, SECONDS = 5, 0.6
JSON_UP_TO = 592
"""Numbers as JSON are five times as long; larger ones only show the same."""


def asker(module: ModuleType, client: Any, count: int, side: int, binary: bool = True) -> Callable[[], object]:
    """A function that asks once."""
    tensor = module.InferInput("pixels", [count, side, side, 3], "UINT8")
    pixels = np.random.default_rng(0).integers(0, 255, (count, side, side, 3), dtype=np.uint8)
    tensor.set_data_from_numpy(pixels, **({} if binary else {"binary_data": False}))
    outputs = [module.InferRequestedOutput(name) for name in ("label", "probability")]
    return lambda: client.infer("pills", [tensor], outputs=outputs)


def figures(bench: Bench, askers: dict[str, Callable[[], object]]) -> dict[str, tuple[list[float], list[float]]]:
    """For each: p50 and servers' CPU of a request by round, ms; they take turns."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in askers}
    for number in range(ROUNDS + 1):  # the first one warms up
        for name, ask in askers.items():
            times, before, until = [], bench.cpu(), time.monotonic() + SECONDS
            while not times or time.monotonic() < until:
                began = time.monotonic()
                ask()
                times.append((time.monotonic() - began) * 1e3)
            if number:
                found[name][0].append(statistics.median(times))
                found[name][1].append((bench.cpu() - before) * 1e3 / len(times))
    return found


def comparison(bench: Bench) -> str:
    """A Markdown table."""
    lines = ["| payload | protocol | p50, ms | : REST | CPU of the servers, ms | : REST |", "|---|---|---|---|---|---|"]
    address = f"{LOOPBACK}:{bench.edge}"
    rest = tritonclient.http.InferenceServerClient(address, connection_timeout=60, network_timeout=60)
    grpc = tritonclient.grpc.InferenceServerClient(address)
    with closing(rest), closing(grpc):
        for count, side in SIZES:
            askers = {
                "REST, binary": asker(tritonclient.http, rest, count, side),
                "gRPC": asker(tritonclient.grpc, grpc, count, side),
            }
            if side <= JSON_UP_TO:
                askers["REST, JSON"] = asker(tritonclient.http, rest, count, side, binary=False)
            found = figures(bench, askers)
            base = found["REST, binary"]
            size = f"{count} x {side} px, {count * side * side * 3 / 2**20:.1f} MiB"
            for name, columns in found.items():
                cells = [
                    f"{statistics.median(own):.1f} ({min(own):.1f} to {max(own):.1f}) | "
                    f"{statistics.median(a / b for a, b in zip(own, other, strict=True)):.2f}"
                    for own, other in zip(columns, base, strict=True)
                ]
                lines.append(f"| {size} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
