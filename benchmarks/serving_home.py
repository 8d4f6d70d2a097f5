"""What serving.py measures: ResNet-18 int8 in Triton, behind Envoy, beside gateway and feedback.

The weights are random: the work is the same. Networks are kept below build/bench, one for each size.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import psutil
import torch

from benchmarks.clients import LOOPBACK
from benchmarks.int8 import OPSET, released
from components.export.int8 import write_int8
from components.export.network import write_onnx
from core.release import ModelSpec
from serving.gateway import envoy, envoy_admin
from serving.gateway.access import Access, Policy, Rate
from serving.gateway.edge import Arm, EdgeConfig, Split
from serving.triton.events import Settings
from serving.triton.repository import write
from serving.triton.server import RunningTriton, free_ports, memory_mib, running

ROOT = Path(__file__).parents[1]
PREPROCESS = ROOT / "workloads" / "pills" / "preprocess.py"
CLASSES, WITHIN = 16, 30.0
RELEASES = {"stable": "ab" * 32, "candidate": "cd" * 32}
OPEN = Rate(per_second=10**9, burst=10**9)
"""A rate that nobody reaches: its filter works all the same."""


def repository(side: int) -> Path:
    """The Triton repository of the network for images of `side` pixels; made once."""
    target = ROOT / "build" / "bench" / f"resnet18-{side}"
    if not target.exists():
        scratch = target.with_suffix(".part")
        scratch.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        write_onnx(released(), torch.zeros(2, 3, side, side), OPSET, scratch / "fp32.onnx")
        noise = np.random.default_rng(0)
        images = [noise.normal(size=(1, 3, side, side)).astype(np.float32) for _ in range(32)]
        write_int8(scratch / "fp32.onnx", images, scratch / "int8.onnx")
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
        write(scratch / "models", spec, scratch / "int8.onnx", [PREPROCESS])
        (scratch / "models").rename(target)
        shutil.rmtree(scratch)
    return target


class Bench:
    """The servers, on free ports of the loopback, until the stack of exits closes."""

    def __init__(self, stack: ExitStack, folder: Path, side: int, rate: Rate = OPEN) -> None:
        self.models, self._stack, self._folder, self._rate = repository(side), stack, folder, rate
        at = free_ports()
        self.edge, self._internal, self._admin = at.http, at.grpc, at.metrics
        self.gateway, self._feedback = free_ports().http, free_ports().http
        self.pids = {"feedback": self._start_feedback()}
        self.tritons = {"stable": self._start_triton("stable")}
        self.weigh(stable=100)
        self.pids["envoy"] = self._run(envoy.command(folder, 1, 5))
        self._until(lambda: envoy_admin.is_ready(self._admin))
        self.pids["gateway"] = self._start_gateway()

    def add_candidate(self) -> None:
        """A second Triton, without traffic."""
        self.tritons["candidate"] = self._start_triton("candidate")

    def weigh(self, shadow: int = 0, **weights: int) -> None:
        """Give the arms these weights, and copy `shadow` percent to the candidate."""
        config = EdgeConfig(
            port=self.edge,
            internal_port=self._internal,
            admin_port=self._admin,
            access_log=str(self._folder / "access.log"),
            gateway_port=self.gateway,
            arms=tuple(self._arm(name, weight) for name, weight in weights.items()),
            splits=(Split(workload="pills", shadow=shadow, **RELEASES),) if "candidate" in weights else (),
            access=Access(policy=Policy(rate=self._rate)),
        )
        versions = envoy.write(config, self._folder)
        if "envoy" in self.pids:
            self._until(lambda: envoy_admin.versions(self._admin) == versions)

    def memory(self) -> dict[str, float]:
        """Proportional set size of each server with its children, MiB."""
        return {name: memory_mib(pid) for name, pid in self.pids.items()}

    def cpu(self) -> float:
        """CPU seconds of all servers."""
        roots = [psutil.Process(pid) for pid in self.pids.values()]
        found = [*roots, *(child for root in roots for child in root.children(recursive=True))]
        return sum(sum(process.cpu_times()[:2]) for process in found)

    def _arm(self, name: str, weight: int) -> Arm:
        at = self.tritons[name].ports
        return Arm(
            workload="pills",
            name=name,
            release=RELEASES[name],
            http_port=at.http,
            grpc_port=at.grpc,
            weight=weight,
        )

    def _start_triton(self, name: str) -> RunningTriton:
        events = Settings(f"http://{LOOPBACK}:{self._feedback}/events", 1.0, "")
        server = self._stack.enter_context(running(self.models, self._folder / "cache", RELEASES[name], events))
        self.pids[f"triton {name}"] = server.pid
        return server

    def _start_feedback(self) -> int:
        database = f"sqlite:///{self._folder / 'events.db'}"
        words = ["-m", "serving.feedback", "--database", database, "--port", str(self._feedback)]
        return self._ready(self._run([sys.executable, *words]), self._feedback)

    def _start_gateway(self) -> int:
        settings = self._folder / "gateway.json"
        settings.write_text(json.dumps({"upstream": f"{LOOPBACK}:{self._internal}", "workloads": ["pills"]}))
        words = ["-m", "serving.gateway", "--settings", str(settings), "--port", str(self.gateway)]
        return self._ready(self._run([sys.executable, *words]), self.gateway)

    def _run(self, words: list[str]) -> int:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)
        return process.pid

    def _ready(self, pid: int, port: int) -> int:
        def is_ready() -> bool:
            try:
                return httpx.get(f"http://{LOOPBACK}:{port}/readyz", timeout=2).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        self._until(is_ready)
        return pid

    @staticmethod
    def _until(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit("a server did not become ready")
            time.sleep(0.02)
