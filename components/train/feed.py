"""Batches on their way to the device: while a GPU computes, the next ones are read, pinned and copied."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

AHEAD = 4
"""Batches that are ready before a GPU asks for them."""

Batch = tuple[Tensor, Tensor]


def feed(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on `device`, images channels last; in their order, and errors where they belong."""
    if device.type == "cpu":
        for images, targets in batches:
            yield images.contiguous(memory_format=torch.channels_last), targets
        return
    reader = ThreadPoolExecutor(1, thread_name_prefix="feed")
    try:
        ready: deque[Future[Batch | None]] = deque(reader.submit(_pinned, batches) for _ in range(AHEAD))
        while (batch := ready.popleft().result()) is not None:
            ready.append(reader.submit(_pinned, batches))
            images, targets = (tensor.to(device, non_blocking=True) for tensor in batch)
            yield images, targets
    finally:
        reader.shutdown(cancel_futures=True)


def _pinned(batches: Iterator[Batch]) -> Batch | None:
    """The next batch in memory of its own that a GPU can copy from by itself; None after the last."""
    batch = next(batches, None)
    if batch is None:
        return None
    images, targets = batch
    return images.contiguous(memory_format=torch.channels_last).pin_memory(), targets.pin_memory()
