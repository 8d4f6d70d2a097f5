"""The processes that train together: who they are, what they agree on, how they are told to stop."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, distributed, nn

ENVIRONMENT = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
"""What torchrun sets, and what it is for one process without torchrun."""

GRACE = 30
"""Seconds from SIGTERM to the end of a process that does not reach its next step."""


@dataclass(frozen=True)
class Team:
    """This process and its fellows, as torchrun's environment names them; alone when there is none."""

    rank: int
    world: int
    local: int
    """Number of this process on its machine."""
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @contextlib.contextmanager
    def one_first(self) -> Iterator[None]:
        """The first process of each machine runs the block alone, then the others do: what it left is there."""
        if self.world > 1 and self.local > 0:
            distributed.barrier()
        yield
        if self.world > 1 and self.local == 0:
            distributed.barrier()

    def sum(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Each value summed over the processes; all of them must call it with the same keys."""
        total = torch.stack([values[key].detach().double() for key in sorted(values)])
        if self.world > 1:
            distributed.all_reduce(total)
        return dict(zip(sorted(values), total.tolist(), strict=True))

    def parallel(self, network: nn.Module, whole: bool) -> nn.Module:
        """The network with its gradients averaged over the processes; batch norms see their own share.

        `whole`: each step has one backward pass.
        """
        if self.world == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            network, device_ids=devices, forward_sync_buffers=False, gradient_as_bucket_view=True, static_graph=whole
        )

    def gathering(self, network: nn.Module, last: bool) -> contextlib.AbstractContextManager[None]:
        """For one of a step's backward passes: gradients are averaged over the processes in the last one alone."""
        if last or not isinstance(network, nn.parallel.DistributedDataParallel):
            return contextlib.nullcontext()
        alone: contextlib.AbstractContextManager[None] = network.no_sync()
        return alone


@contextlib.contextmanager
def team() -> Iterator[Team]:
    """The team of this process, joined and left: nccl between GPUs, gloo between processes on CPUs."""
    rank, world, local = (int(os.environ.get(name, default)) for name, default in ENVIRONMENT)
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world > 1:
        distributed.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    try:
        yield Team(rank, world, local, device)
    finally:
        if world > 1:
            distributed.destroy_process_group()


class Interruption:
    """Set by SIGTERM; training asks between two steps. A process that hangs is ended after GRACE seconds."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """From now on SIGTERM is a request."""
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.alarm(GRACE)


def settle(device: torch.device, deterministic: bool) -> None:
    """Choose a GPU's kernels: the fastest for the shapes that come, or those that give the same bits each time."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = not deterministic
        torch.use_deterministic_algorithms(deterministic)


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether the network runs in bf16: when asked to, and with `auto` where the hardware multiplies it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        able: bool = torch.cuda.is_bf16_supported(including_emulation=False)
        return able
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
