"""What an interrupted training goes on from: one safetensors file whose header carries the state as JSON.

One file, because weights and state must be of the same step; renamed into place, so a reader sees the old one or the
new one. No pickle: the optimizer's tensors are stored by parameter number.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as serialized
from torch import Tensor, nn
from torch.optim import Optimizer

from components.train.job import Curves
from core.config import Config
from core.errors import PermanentError
from core.files import write_atomic


class State(Config):
    """Where a training is, besides its tensors; everything random follows from the seed and `step`."""

    step: int = 0
    epoch_loss: float = 0.0
    """Sum of the losses of the unfinished epoch."""
    curves: Curves = Curves()
    best_epoch: int = -1
    best_score: float | None = None
    seconds: float = 0.0
    """Spent in the loop, over all attempts."""


def save(path: Path, network: nn.Module, optimizer: Optimizer, state: State) -> None:
    """Write network, optimizer and state to `path`, or leave what was there."""
    tensors = {f"model/{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"optimizer/{name}": tensor for name, tensor in _optimizer_tensors(optimizer)}
    write_tensors(path, tensors, {"state": state.model_dump_json()})


def load(path: Path, network: nn.Module, optimizer: Optimizer) -> State:
    """Put a checkpoint into network and optimizer; raises PermanentError when it is of another network."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        state = State.model_validate_json(file.metadata()["state"])
    weights = {name.removeprefix("model/"): tensor for name, tensor in tensors.items() if name.startswith("model/")}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise PermanentError(f"{str(path)!r} is the checkpoint of another network; remove it: {error}") from error
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "optimizer":
            number, _, key = rest.partition("/")
            place = parameters[int(number)]
            optimizer.state[place][key] = torch.empty_like(place, dtype=tensor.dtype).copy_(tensor)
    return state


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, whole or not at all; its bytes lie in memory first, because `save_file` raises no OSError."""
    write_atomic(path, serialized({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, metadata))


def _optimizer_tensors(optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in enumerate(parameters):
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                yield f"{number}/{key}", value
