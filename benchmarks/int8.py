"""What int8 costs beside fp32 in OpenVINO alone, by how the network was made: `python -m benchmarks.int8 [--side 96]`.

One thread, the server's settings, batches of 1 and 8, random weights (the work is the same). The rows take turns; CPU
time per image, median of the rounds. `released` is what export writes, `plain` torchvision's network with its logits
alone from the exporter of old. Below, the kernels of the released one: its time follows from what they can do.
"""

import argparse
import collections
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
import torchvision
from torch import nn

from components.export.int8 import write_int8
from components.export.network import write_onnx
from workloads.pills.export import served
from workloads.pills.model import Network

ROUNDS, SECONDS, CLASSES, OPSET, WARM = 7, 0.25, 16, 18, 20
SETTINGS: dict[str, Any] = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
"""As in the server."""


def released() -> nn.Module:
    """ResNet-18 as workloads/pills builds it, with all that the server answers."""
    resnet = torchvision.models.resnet18()
    layers = [layer for name, layer in resnet.named_children() if name not in ("avgpool", "fc")]
    return served(Network(nn.Sequential(*layers), 512, CLASSES, 0.0))


def write_plain(network: nn.Module, side: int, target: Path) -> None:
    """The logits alone, by the exporter of old."""
    names = {"input_names": ["images"], "output_names": ["logits"], "dynamic_axes": {"images": {0: "n"}}}
    torch.onnx.export(network.eval(), (torch.zeros(1, 3, side, side),), str(target), dynamo=False, **names)


def compiled(path: Path, side: int, batch: int, **options: Any) -> Any:
    """An infer request with its input set."""
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({"images": [batch, 3, side, side]})
    request = core.compile_model(model, "CPU", SETTINGS | options).create_infer_request()
    images = np.random.default_rng(0).normal(size=(batch, 3, side, side)).astype(np.float32)
    request.set_input_tensor(openvino.Tensor(images))
    return request


def microseconds(request: Any, batch: int) -> float:
    """CPU time per image."""
    count, began, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < SECONDS:
        request.infer()
        count += batch
    return (time.process_time() - cpu) / count * 1e6


def kernels(path: Path, side: int) -> dict[str, float]:
    """Share of the time by OpenVINO's node and kernel, largest first."""
    request = compiled(path, side, 8, PERF_COUNT=True, **EXACT)
    spent: collections.Counter[str] = collections.Counter()
    for _ in range(WARM):
        request.infer()
    for node in request.profiling_info:
        spent[f"{node.node_type} {node.exec_type}"] += node.real_time.total_seconds()
    return {name: seconds / spent.total() for name, seconds in spent.most_common(4)}


def rows(folder: Path, side: int) -> dict[str, Any]:
    """Name -> (request, batch)."""
    torch.manual_seed(0)
    noise = np.random.default_rng(0).normal(size=(8, 1, 3, side, side)).astype(np.float32)
    write_onnx(released(), torch.from_numpy(noise[:2, 0]), OPSET, folder / "released.onnx")
    write_plain(torchvision.models.resnet18(num_classes=CLASSES), side, folder / "plain.onnx")
    found = {}
    for name in ("released", "plain"):
        write_int8(folder / f"{name}.onnx", list(noise), folder / f"{name}-int8.onnx")
        for batch in (1, 8):
            for kind, file in (("fp32", f"{name}.onnx"), ("int8", f"{name}-int8.onnx")):
                found[f"{name}, {kind}, batch {batch}"] = (compiled(folder / file, side, batch, **EXACT), batch)
    found["released, int8, batch 8, no f32 hint"] = (compiled(folder / "released-int8.onnx", side, 8), 8)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=96)
    side = parser.parse_args().side
    with tempfile.TemporaryDirectory() as folder:
        requests = rows(Path(folder), side)
        times: dict[str, list[float]] = {name: [] for name in requests}
        for _ in range(ROUNDS):
            for name, (request, batch) in requests.items():
                times[name].append(microseconds(request, batch))
        shares = kernels(Path(folder) / "released-int8.onnx", side)
    print(f"| network, {side} px | CPU us per image, median (range) |\n|---|---|")
    for name, found in times.items():
        print(f"| {name} | {statistics.median(found):.0f} ({min(found):.0f} to {max(found):.0f}) |")
    print(f"\n{openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')}")
    print("; ".join(f"{name} {share:.1%}" for name, share in shares.items()))


if __name__ == "__main__":
    main()
