"""The gateway through a real Envoy: two workloads behind one internal listener, and a model server that dies."""

import contextlib
import os
import signal
import subprocess
import time

import httpx
import pytest

from serving.gateway import envoy, envoy_admin
from serving.gateway.app import create_app
from serving.gateway.edge import Arm, EdgeConfig
from serving.gateway.settings import Settings
from serving.triton.server import free_ports, running
from tests.colours import RELEASE, picture, write_repository
from tests.conftest import served, wait_until


def arm(workload, release, triton):
    return Arm(
        workload=workload,
        name="stable",
        release=release,
        http_port=triton.ports.http,
        grpc_port=triton.ports.grpc,
        weight=100,
    )


@contextlib.contextmanager
def edge(folder, *arms):
    """The internal gRPC address of an Envoy in front of these arms."""
    ports = free_ports()
    places = {"port": ports.http, "internal_port": ports.grpc, "admin_port": ports.metrics}
    envoy.write(EdgeConfig(access_log=str(folder / "access.log"), arms=arms, **places), folder)
    process = subprocess.Popen(envoy.command(folder, 1, 1), stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: envoy_admin.is_ready(ports.metrics))
        yield f"127.0.0.1:{ports.grpc}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def own_triton(tmp_path, triton_cache):
    with running(write_repository(tmp_path / "own", "lens"), triton_cache, "ee" * 32) as server:
        yield server


def test_each_workload_is_answered_by_its_own_server_and_a_dead_one_costs_no_other(triton, own_triton, tmp_path):
    arms = (arm("pills", RELEASE, triton), arm("lens", "ee" * 32, own_triton))
    with edge(tmp_path, *arms) as upstream:
        app = create_app(Settings(upstream=upstream, workloads=("pills", "lens"), deadline=2.0))
        with served(app) as url, httpx.Client(base_url=url, timeout=30) as client:

            def upload(workload):
                return client.post("/v1/predict", params={"workload": workload}, files={"image": picture("blue")})

            wait_until(lambda: client.get("/readyz").status_code == 200)
            for workload, release in (("pills", RELEASE), ("lens", "ee" * 32)):
                (item,) = upload(workload).json()["predictions"]
                assert (item["label"], item["release"]) == ("blue", release)
            assert [model["workload"] for model in client.get("/v1/models").json()["models"]] == ["pills", "lens"]
            os.kill(own_triton.pid, signal.SIGKILL)
            wait_until(lambda: client.get("/readyz").status_code == 503)
            began = time.monotonic()
            assert upload("lens").status_code == 503
            assert time.monotonic() - began < 0.2
            assert upload("pills").status_code == 200
