"""A release on KServe: verified, ready, and the same answers over REST and gRPC through one Gateway listener."""

import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cluster.conftest import LABELS, Cluster, Release

pytestmark = pytest.mark.cluster


def _image() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _ask(module: Any, address: str) -> dict[str, Any]:
    client = module.InferenceServerClient(address)
    given = module.InferInput("image", [1, 1], "BYTES")
    given.set_data_from_numpy(np.array([[_image()]], dtype=object))
    answer = client.infer("pills", [given])
    return {
        name: answer.as_numpy(name)[0] for name in ("label", "probability", "probabilities", "embedding", "release")
    }


def _ready(cluster: Cluster, name: str) -> bool:
    found = cluster.kubectl("get", "inferenceservice", name, "-o", "json", check=False)
    conditions = json.loads(found).get("status", {}).get("conditions", []) if found else []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def test_release_is_ready_and_answers_alike_over_rest_and_grpc(cluster: Cluster, release: Release) -> None:
    import tritonclient.grpc
    import tritonclient.http

    cluster.until(lambda: _ready(cluster, "pills-stable"), "pills-stable is Ready")
    address = cluster.gateway()

    def answers() -> Any:
        try:
            return _ask(tritonclient.http, address), _ask(tritonclient.grpc, address)
        except (OSError, tritonclient.http.InferenceServerException, tritonclient.grpc.InferenceServerException):
            return None

    rest, grpc = cluster.until(answers, "the Gateway answers")
    assert rest["label"][0].decode() in LABELS
    assert rest["release"][0].decode() == release.digest
    for name in ("probability", "probabilities", "embedding"):
        np.testing.assert_allclose(rest[name], grpc[name], atol=1e-5)


def test_arm_is_named_by_a_header(cluster: Cluster, release: Release) -> None:
    import httpx

    cluster.until(lambda: _ready(cluster, "pills-stable"), "pills-stable is Ready")
    answer = cluster.until(
        lambda: (r := httpx.get(f"http://{cluster.gateway()}/v2/models/pills")).is_success and r, "the Gateway answers"
    )
    assert answer.headers["x-titrate-arm"] == "stable"
    assert answer.headers["x-titrate-release"] == release.digest


def test_cold_start_is_within_20_seconds(cluster: Cluster) -> None:
    cluster.until(lambda: _ready(cluster, "pills-stable"), "pills-stable is Ready")
    pod = cluster.get("pods", "-l", "app=isvc.pills-stable-predictor")["items"][0]["metadata"]["name"]
    cluster.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    began = time.monotonic()

    def replaced() -> bool:
        pods = cluster.get("pods", "-l", "app=isvc.pills-stable-predictor")["items"]
        return any(
            p["metadata"]["name"] != pod
            and any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions", []))
            for p in pods
        )

    cluster.until(replaced, "another pod is Ready")
    assert time.monotonic() - began <= 20


def test_changed_release_never_becomes_ready_and_says_which_file(
    cluster: Cluster, release: Release, tmp_path: Path
) -> None:
    """One byte of the network, on the volume: the container ends before Triton starts, and names it."""
    service = cluster.get("inferenceservice", "pills-stable")
    uri = f"pvc://titrate-objects/changed/{release.digest}"
    service["spec"]["predictor"]["model"]["storageUri"] = uri
    changed = {**service, "metadata": {"name": "pills-changed", "labels": service["metadata"]["labels"]}}
    changed.pop("status")
    folder = shutil.copytree(release.folder, tmp_path / "changed")
    network = folder / "pills" / "1" / "network.onnx"
    content = bytearray(network.read_bytes())
    content[100] ^= 1
    network.write_bytes(content)
    with cluster.loader():
        cluster.upload(str(folder), f"/objects/changed/{release.digest}")
    cluster.kubectl("apply", "-f", "-", text=json.dumps(changed))
    try:
        message = cluster.until(lambda: _termination(cluster, "pills-changed"), "the container says why it ended")
        assert "'pills/1/network.onnx' was changed" in message
        assert not _ready(cluster, "pills-changed")
    finally:
        cluster.kubectl("delete", "inferenceservice", "pills-changed")


def _termination(cluster: Cluster, service: str) -> str:
    for pod in cluster.get("pods", "-l", f"app=isvc.{service}-predictor")["items"]:
        for status in pod["status"].get("containerStatuses", []):
            for state in (status.get("state", {}), status.get("lastState", {})):
                if message := state.get("terminated", {}).get("message"):
                    return str(message)
    return ""
