"""Puts the samples of one side to the real Triton, as a client would, and to the network directly.

Triton gives labels, latency and memory; it answers with the most probable labels only, so the complete logits, which
AUC and calibration need, come from the same network and the same preprocessing in this process. Both must name the
same labels.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.evaluate.report import Latency
from core.dataset import Sample
from core.errors import PermanentError
from core.objects import Store
from core.release import ModelSpec
from serving.triton.server import running
from workloads.contract import load

BATCH = 8
TIMED = 200
"""Single requests that are timed: p99 is then the third slowest."""
WARM = 10
TIE = 1e-3
"""Logits. One int8 network answered equally to the last bit in batches of 1 to 8; fp32 may sum in another order."""


@dataclass(frozen=True)
class Served:
    """What the server answered, in the order of the samples."""

    labels: list[str]
    probabilities: NDArray[np.float32]
    abstains: NDArray[np.bool_]
    latency: Latency
    memory_mb: float


def serve(repository: Path, spec: ModelSpec, samples: Sequence[Sample], store: Store, cache: Path) -> Served:
    """Start Triton over `repository`, put every sample to it over gRPC, time single requests, stop it."""
    import tritonclient.grpc as grpc

    with running(repository, cache) as triton:
        client = grpc.InferenceServerClient(triton.grpc_url)
        labels: list[str] = []
        probabilities, abstains = [], []
        for batch in _batches(samples):
            answer = _ask(client, spec.workload, [store.blob(sample.sha256) for sample in batch])
            labels += [label.decode() for label in answer.as_numpy("label").ravel()]
            probabilities.append(answer.as_numpy("probability").ravel())
            abstains.append(answer.as_numpy("abstain").ravel())
        blobs = [store.blob(sample.sha256) for sample in samples[:TIMED]]
        latency = _time(client, spec.workload, blobs)
        memory = triton.memory_mib()
        client.close()
    return Served(labels, np.concatenate(probabilities), np.concatenate(abstains), latency, memory)


def logits(network: Path, spec: ModelSpec, samples: Sequence[Sample], store: Store) -> NDArray[np.float64]:
    """float64 [n, classes]: the network's answers in this process, by the release's own preprocessing."""
    import openvino

    preprocess = load(spec.workload).preprocess
    compiled = openvino.Core().compile_model(str(network), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    parts = []
    for batch in _batches(samples):
        images = np.stack([preprocess.decode(store.blob(sample.sha256), spec.image_size) for sample in batch])
        parts.append(compiled(preprocess.normalise(images))["logits"].astype(np.float64))
    return np.concatenate(parts)


def check_same(served: Served, spec: ModelSpec, scores: NDArray[np.float64], samples: Sequence[Sample]) -> None:
    """Raise PermanentError when server and network name different labels: training and serving would differ.

    A label whose logit is within TIE of the highest counts as the same.
    """
    place = {label: index for index, label in enumerate(spec.labels)}
    named = scores[np.arange(len(samples)), [place[label] for label in served.labels]]
    different = np.flatnonzero(named < scores.max(axis=1) - TIE)
    if len(different):
        raise PermanentError(
            f"Triton and the network disagree on {len(different)} of {len(samples)} images, "
            f"first {samples[different[0]].id!r}"
        )


def _batches(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    return (samples[at : at + BATCH] for at in range(0, len(samples), BATCH))


def _ask(client, workload: str, images: Sequence[bytes]):  # type: ignore[no-untyped-def]  # tritonclient has no types
    import tritonclient.grpc as grpc

    given = grpc.InferInput("image", [len(images), 1], "BYTES")
    given.set_data_from_numpy(np.array(images, dtype=object)[:, None])
    wanted = [grpc.InferRequestedOutput(name) for name in ("label", "probability", "abstain")]
    return client.infer(workload, [given], outputs=wanted)


def _time(client, workload: str, images: Sequence[bytes]) -> Latency:  # type: ignore[no-untyped-def]  # as above
    for image in images[:WARM]:
        _ask(client, workload, [image])
    times = []
    for image in images:
        began = time.perf_counter()
        _ask(client, workload, [image])
        times.append((time.perf_counter() - began) * 1000)
    p50, p95, p99 = np.percentile(times, (50, 95, 99))
    return Latency(requests=len(times), p50_ms=float(p50), p95_ms=float(p95), p99_ms=float(p99))
