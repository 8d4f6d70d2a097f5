"""Tells who follows a training from outside, a sweep, of each epoch: the score, and how fast the network answers."""

import copy
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from components.train.job import EpochReport, Watch
from core.files import sha256_bytes

PASSES, WARM = 15, 3
MOST_SECONDS = 1.0


class Watcher:
    """Appends to the file of one watch."""

    def __init__(self, watch: Watch) -> None:
        self._file = Path(watch.file)
        self._network: dict[str, float | str | None] = {}

    def tell(self, epoch: int, epochs: int, score: float | None, network: nn.Module, example: Tensor | None) -> None:
        """Say that `epoch` of `epochs` are done and what `score` the best had; `example`: inputs float32 [n, ...]."""
        if not self._network:
            one = None if example is None else example[:1]
            name = f"{network!r} {None if one is None else tuple(one.shape)}"
            self._network = {
                "latency_ms": None if one is None else latency_ms(network, one),
                "network": sha256_bytes(name.encode())[:12],
            }
        report = EpochReport.model_validate({"epoch": epoch, "epochs": epochs, "score": score, **self._network})
        with self._file.open("a") as file:
            file.write(report.model_dump_json() + "\n")


@torch.no_grad()
def latency_ms(network: nn.Module, one: Tensor) -> float:
    """Milliseconds of processor time that the network takes for one input, float32 [1, ...], on one thread of the CPU.

    The median of up to PASSES passes of PyTorch's own network in float32. On an idle core that is the time a caller
    waits; processor time, because the trials of a sweep share the cores. What serves is the exported network, in ONNX
    or int8, and faster: this number compares networks, it promises no latency.
    """
    alone = copy.deepcopy(network).cpu().eval()
    one = one.cpu().float()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ends = time.monotonic() + MOST_SECONDS
        found: list[float] = []
        while len(found) < PASSES + WARM and (len(found) < 2 or time.monotonic() < ends):
            began = time.thread_time()
            alone(one)
            found.append(1000 * (time.thread_time() - began))
    finally:
        torch.set_num_threads(threads)
    return statistics.median(found[min(WARM, len(found) - 1) :])
