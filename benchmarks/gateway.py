"""What an upload costs beside the V2 request that carries the same JPEG: `python -m benchmarks.gateway [--side 96]`.

ResNet-18 int8 (random weights: the work is the same) in a real Triton, 2 instances, behind Envoy; 50 clients on
keep-alive connections. CPU is that of Triton, Envoy and gateway together, per answered request; paths take turns, 5
rounds, medians. Exits 1 when an upload costs more than 1.6 times the CPU of V2 through the same Envoy.
"""

import argparse
import asyncio
import io
import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import psutil
import torch
from PIL import Image

from benchmarks.int8 import OPSET, released
from components.export.int8 import write_int8
from components.export.network import write_onnx
from core.release import ModelSpec
from serving.gateway import envoy, envoy_admin
from serving.gateway.edge import Arm, EdgeConfig
from serving.triton.repository import write
from serving.triton.server import RunningTriton, free_ports, running

CLIENTS, SECONDS, ROUNDS, BAR = 50, 4.0, 5, 1.6
CLASSES, RELEASE, LOOPBACK = 16, "ab" * 32, "127.0.0.1"
PREPROCESS = Path(__file__).parents[1] / "workloads" / "pills" / "preprocess.py"
OUTPUTS = ("label", "probability", "labels", "probabilities", "abstain", "release", "error")


def repository(folder: Path, side: int) -> Path:
    """A Triton repository of ResNet-18 int8."""
    torch.manual_seed(0)
    fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
    write_onnx(released(), torch.zeros(2, 3, side, side), OPSET, fp32)
    noise = np.random.default_rng(0)
    write_int8(fp32, [noise.normal(size=(1, 3, side, side)).astype(np.float32) for _ in range(32)], int8)
    spec = ModelSpec(
        workload="pills",
        labels=[f"pill-{i}" for i in range(CLASSES)],
        image_size=side,
        precision="int8",
        temperature=1.0,
        abstain_below=0.0,
        embedding_size=512,
        synthetic=True,
    )
    write(folder / "models", spec, int8, [PREPROCESS])
    return folder / "models"


def photograph(side: int) -> bytes:
    """A JPEG with the detail of a photograph: smooth noise."""
    small = np.random.default_rng(1).integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((side, side)).save(file, "JPEG", quality=85)
    return file.getvalue()


def upload(image: bytes) -> bytes:
    """The raw HTTP request of a multipart upload."""
    head = (
        b'--bnd\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    body = head + image + b"\r\n--bnd--\r\n"
    return http(b"/v1/predict", body, b"Content-Type: multipart/form-data; boundary=bnd\r\n")


def v2(image: bytes) -> bytes:
    """The raw HTTP request of V2 with binary tensors."""
    tensor = struct.pack("<I", len(image)) + image
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in OUTPUTS]
    size = {"binary_data_size": len(tensor)}
    inputs = [{"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": size}]
    header = json.dumps({"id": "bench", "inputs": inputs, "outputs": outputs}).encode()
    return http(b"/v2/models/pills/infer", header + tensor, b"Inference-Header-Content-Length: %d\r\n" % len(header))


def http(path: bytes, body: bytes, headers: bytes) -> bytes:
    """One POST as it goes over the wire."""
    return b"POST %s HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n%s\r\n%s" % (path, len(body), headers, body)


async def client(port: int, request: bytes, until: float) -> int:
    """Answered requests of one connection."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    done = 0
    while time.monotonic() < until:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 " in head, head
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        done += 1
    writer.close()
    return done


async def load(port: int, request: bytes, seconds: float) -> int:
    """Answered requests of all clients."""
    until = time.monotonic() + seconds
    return sum(await asyncio.gather(*[client(port, request, until) for _ in range(CLIENTS)]))


def cpu(pids: list[int]) -> float:
    """CPU seconds that these processes and their children have used."""
    roots = [psutil.Process(pid) for pid in pids]
    found = [*roots, *(child for root in roots for child in root.children(recursive=True))]
    return sum(sum(process.cpu_times()[:2]) for process in found)


def start_envoy(folder: Path, triton: RunningTriton) -> tuple["subprocess.Popen[bytes]", int, int]:
    """(process, edge port, internal port)."""
    ports = free_ports()
    arm = Arm(
        workload="pills",
        name="stable",
        release=RELEASE,
        http_port=triton.ports.http,
        grpc_port=triton.ports.grpc,
        weight=100,
    )
    log = str(folder / "access.log")
    places = {"port": ports.http, "internal_port": ports.grpc, "admin_port": ports.metrics}
    envoy.write(EdgeConfig(access_log=log, arms=(arm,), **places), folder)
    process = subprocess.Popen(envoy.command(folder, 1, 5), stderr=subprocess.DEVNULL)
    while not envoy_admin.is_ready(ports.metrics):
        time.sleep(0.05)
    return process, ports.http, ports.grpc


def start_gateway(folder: Path, upstream: int) -> tuple["subprocess.Popen[bytes]", int]:
    """(process, port), ready."""
    port = free_ports().http
    (folder / "gateway.json").write_text(json.dumps({"upstream": f"{LOOPBACK}:{upstream}", "workloads": ["pills"]}))
    words = [sys.executable, "-m", "serving.gateway", "--settings", str(folder / "gateway.json"), "--port", str(port)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    with httpx.Client(base_url=f"http://{LOOPBACK}:{port}") as asking:
        while process.poll() is None:
            try:
                if asking.get("/readyz").status_code == httpx.codes.OK:
                    return process, port
            except httpx.ConnectError:
                pass
            time.sleep(0.05)
    raise SystemExit("the gateway did not start")


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=96, help="of the JPEG and the network, pixels")
    side = parser.parse_args().side
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        triton = stack.enter_context(running(repository(folder, side), folder / "cache", RELEASE))
        proxy, edge, internal = start_envoy(folder, triton)
        stack.callback(proxy.wait)
        stack.callback(proxy.terminate)
        gateway, port = start_gateway(folder, internal)
        stack.callback(gateway.wait)
        stack.callback(gateway.terminate)
        pids, image = [triton.pid, proxy.pid, gateway.pid], photograph(side)
        paths = {
            "V2 > Triton": (triton.ports.http, v2(image)),
            "V2 > Envoy > Triton": (edge, v2(image)),
            "upload > gateway > Envoy > Triton": (port, upload(image)),
        }
        return report(paths, pids, side)


def report(paths: dict[str, tuple[int, bytes]], pids: list[int], side: int) -> int:
    """Run all rounds and print a row for each path."""
    rates: dict[str, list[float]] = {name: [] for name in paths}
    costs: dict[str, list[float]] = {name: [] for name in paths}
    for number in range(ROUNDS + 1):  # the first one warms up
        for name, (port, request) in paths.items():
            before = cpu(pids)
            done = asyncio.run(load(port, request, SECONDS if number else 1.0))
            if number:
                rates[name].append(done / SECONDS)
                costs[name].append((cpu(pids) - before) / done * 1e6)
    base = list(paths)[1]
    print(f"{side} px JPEG, {CLIENTS} clients, {ROUNDS} rounds of {SECONDS:g} s, {psutil.cpu_count()} cores")
    for name in paths:
        ratios = [one / other for one, other in zip(costs[name], costs[base], strict=True)]
        print(
            f"{name:36} {statistics.median(rates[name]):6.0f}/s  CPU {statistics.median(costs[name]):6.0f} us "
            f"({min(costs[name]):.0f} to {max(costs[name]):.0f})  x {statistics.median(ratios):.2f}"
        )
    return int(statistics.median(ratios) > BAR)


if __name__ == "__main__":
    sys.exit(main())
