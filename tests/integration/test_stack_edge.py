"""A real Envoy before a real Triton: what passes, what does not, and weights that move under traffic."""

import collections
import contextlib
import json
import subprocess
import threading
import time
import urllib.error
import urllib.request

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc

from serving.gateway import envoy, envoy_admin
from serving.gateway.access import Access, Policy
from serving.gateway.edge import Arm, EdgeConfig
from serving.gateway.envoy_routes import GRPC_METHODS, WORKLOAD_HEADER
from serving.triton.server import free_ports
from tests.colours import picture
from titrate.predict import HEADER, OUTPUTS, decode, encode

STABLE, CANDIDATE = "a" * 64, "b" * 64
LIMIT = 64 * 1024


class Edge:
    """An Envoy whose arms all lead to one server: what they answer differs in the headers alone."""

    def __init__(self, folder, triton):
        ports = free_ports()
        self.folder, self.triton = folder, triton
        self.config = EdgeConfig(
            port=ports.http,
            internal_port=ports.grpc,
            admin_port=ports.metrics,
            access_log=str(folder / "access.log"),
            access=Access(policy=Policy(max_body_bytes=LIMIT)),
        )
        self.url = f"http://127.0.0.1:{ports.http}"
        self.versions = envoy.write(self.config, folder)

    def share(self, **weights):
        """Give the arms these weights; returns the seconds until Envoy has applied them."""
        releases = {"stable": STABLE, "candidate": CANDIDATE}
        at = self.triton.ports
        arms = tuple(
            Arm(
                workload="pills",
                name=name,
                release=releases[name],
                http_port=at.http,
                grpc_port=at.grpc,
                weight=weight,
            )
            for name, weight in weights.items()
        )
        self.config = self.config.model_copy(update={"arms": arms})
        began = time.monotonic()
        self.versions = envoy.write(self.config, self.folder)
        self.settle()
        return time.monotonic() - began

    def settle(self):
        deadline = time.monotonic() + 20
        while envoy_admin.versions(self.config.admin_port) != self.versions:
            assert time.monotonic() < deadline
            time.sleep(0.002)


@pytest.fixture(scope="module")
def edge(tmp_path_factory, triton):
    folder = tmp_path_factory.mktemp("edge")
    one = Edge(folder, triton)
    process = subprocess.Popen(envoy.command(folder, 1, 5))
    try:
        deadline = time.monotonic() + 20
        while not envoy_admin.is_ready(one.config.admin_port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield one
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def client(edge):
    with httpx.Client(base_url=edge.url, timeout=20) as one:
        yield one


def ask(client, content=None):
    body, length = encode([content or picture("red")])
    return client.post("/v2/models/pills/infer", content=body, headers={HEADER: str(length)})


def test_without_a_release_it_says_so(edge, client):
    edge.share()
    answer = client.get("/v2/health/ready")
    assert answer.status_code == 503
    assert "no release is stable" in answer.json()["error"]


def test_rest_and_grpc_come_in_on_one_port_and_name_their_arm(edge, client):
    edge.share(stable=100)
    answer = ask(client)
    assert answer.headers["x-titrate-release"] == STABLE
    assert answer.headers["x-titrate-arm"] == "stable"
    outputs = decode(answer.content, int(answer.headers[HEADER]))
    assert outputs["label"] == ["red"]
    assert set(outputs) == set(OUTPUTS)
    with contextlib.closing(tritonclient.grpc.InferenceServerClient(edge.url.removeprefix("http://"))) as rpc:
        tensor = tritonclient.grpc.InferInput("pixels", [1, 8, 8, 3], "UINT8")
        tensor.set_data_from_numpy(np.full((1, 8, 8, 3), (0, 255, 0), np.uint8))
        assert rpc.infer("pills", [tensor]).as_numpy("label").tolist() == [[b"green"]]
        assert rpc.is_server_ready()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/models/pills/config", 200),
        ("GET", "/v2/models/other", 404),
        ("POST", "/v2/repository/index", 404),
        ("GET", "/v2/systemsharedmemory/status", 404),
        ("GET", "/v2/models/pills/trace/setting", 404),
        ("GET", "/v2/logging", 404),
        ("POST", "/v2/logging", 404),
        ("POST", "/v2/trace/setting", 404),
        ("GET", "/v2/cudasharedmemory/status", 404),
        ("POST", "/v2/systemsharedmemory/region/all/register", 404),
        ("POST", "/v2/cudasharedmemory/region/all/register", 404),
        ("POST", "/v2/repository/models/pills/unload", 404),
        ("POST", "/v2//repository/index", 404),
        ("POST", "/v2/%72epository/index", 404),
        ("POST", "/v2/models/pills/../../repository/index", 404),
        ("POST", "/v2/models/pills%2F..%2F..%2Frepository/index", 400),
        ("GET", "/metrics", 404),
    ],
)
def test_only_the_protocol_passes(edge, method, path, status):
    edge.share(stable=100)
    request = urllib.request.Request(edge.url + path, method=method)  # it sends the path as it is written
    try:
        with urllib.request.urlopen(request) as answer:
            found = answer.status
    except urllib.error.HTTPError as error:
        found = error.code
        error.close()
    assert found == status


CLOSED_METHODS = (
    *("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
    *(f"{kind}SharedMemory{what}" for kind in ("System", "Cuda") for what in ("Status", "Register", "Unregister")),
    *("TraceSetting", "LogSettings", "ModelStreamInfer"),
)
"""Of Triton's gRPC service: what changes the server, names memory of its machine, or has no size limit."""


def test_every_grpc_method_is_either_for_clients_or_closed():
    service = tritonclient.grpc.service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert {*GRPC_METHODS.split("|"), *CLOSED_METHODS} == set(service.methods_by_name)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("method", CLOSED_METHODS)
def test_what_would_change_the_server_is_closed_to_grpc(edge, method, named):
    """Through the public and the internal listener alike, whether or not the caller names a workload."""
    edge.share(stable=100)
    metadata = [(WORKLOAD_HEADER, "pills")] if named else []
    for port in (edge.config.port, edge.config.internal_port):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", metadata=metadata, timeout=20)
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
            assert "nothing at this path" in refused.value.details(), "Envoy's word, not Triton's"


def test_a_body_above_the_limit_is_refused_before_it_reaches_the_server(edge, client):
    edge.share(stable=100)
    answer = client.post("/v2/models/pills/infer", content=b"x" * (LIMIT + 1))
    assert (answer.status_code, answer.json()["error"]) == (413, "Payload Too Large")
    chunks = (b"x" * 1024 for _ in range(LIMIT // 1024 + 1))
    assert client.post("/v2/models/pills/infer", content=chunks).status_code == 413
    assert ask(client).status_code == 200, "the server is as well as before"


def test_a_chunked_body_arrives_whole(edge, client):
    edge.share(stable=100)
    body, length = encode([picture("blue")])
    chunks = (body[at : at + 7] for at in range(0, len(body), 7))
    answer = client.post("/v2/models/pills/infer", content=chunks, headers={HEADER: str(length)})
    assert decode(answer.content, int(answer.headers[HEADER]))["label"] == ["blue"]


def test_the_log_has_a_line_for_each_request_and_no_body(edge, client):
    edge.share(stable=100)
    size = len(ask(client, b"secret image").request.content)
    path = edge.folder / "access.log"
    deadline = time.monotonic() + 20
    while not (lines := [line for line in map(json.loads, path.read_text().splitlines()) if line["bytes_in"] == size]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert lines[-1]["path"] == "/v2/models/pills/infer"
    assert lines[-1]["cluster"].startswith("rest-pills-stable-")
    assert "secret image" not in path.read_text()


def test_weights_move_at_once_and_no_request_is_lost(edge):
    """Ten changes under the traffic of four clients; both arms get their share."""
    edge.share(stable=100, candidate=0)
    seen, failed, stop = collections.Counter(), [], threading.Event()

    def traffic():
        with httpx.Client(base_url=edge.url, timeout=20) as client:
            while not stop.is_set():
                answer = ask(client)
                if answer.status_code != 200:
                    failed.append(answer.text)
                seen[answer.headers.get("x-titrate-arm")] += 1

    threads = [threading.Thread(target=traffic) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        delays = []
        for weight in (5, 25, 50, 75, 100, 100, 50, 25, 0, 50):
            delays.append(edge.share(stable=100 - weight, candidate=weight))
            enough = sum(seen.values()) + 40
            deadline = time.monotonic() + 60
            while sum(seen.values()) < enough:
                assert time.monotonic() < deadline
                time.sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert failed == []
    assert seen["stable"] > 40
    assert seen["candidate"] > 40
    # The fastest quarter: other tests on the machine only add time. benchmarks/rollout_stack.py has the median without.
    assert sorted(delays)[len(delays) // 4] < 0.2, delays
