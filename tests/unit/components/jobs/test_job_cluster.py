"""What the API server answers becomes an error that says what to change; the calls are the real client's."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from kubernetes import client

from components.jobs.cluster import TRAIN_JOBS, Cluster
from core.errors import PermanentError, TemporaryError, UserError

MANIFEST = {"metadata": {"name": "train-1"}}


class Answers(BaseHTTPRequestHandler):
    """Answers every request with the server's `status` and `body`, and notes it."""

    def _answer(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        if length := int(self.headers.get("content-length") or 0):
            self.rfile.read(length)
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(self.server.body.encode())  # type: ignore[attr-defined]

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - the names that BaseHTTPRequestHandler calls

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.asked, server.status, server.body = [], 200, json.dumps({"items": [], **MANIFEST})  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cluster(server: ThreadingHTTPServer) -> Iterator[Cluster]:
    settings = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
    settings.retries = False
    with client.ApiClient(settings) as api:
        yield Cluster(api, "pipelines")


def test_the_calls_are_those_that_the_role_grants(cluster: Cluster, server) -> None:
    """kustomize/base/jobs/access.yaml."""
    cluster.create(TRAIN_JOBS, MANIFEST)
    assert cluster.get(TRAIN_JOBS, "train-1") == {"items": [], **MANIFEST}
    cluster.own(TRAIN_JOBS, "train-1", [])
    cluster.delete(TRAIN_JOBS, "train-1")
    assert cluster.jobs(TRAIN_JOBS) == []
    assert cluster.pods("train-1") == []
    base = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/pipelines/trainjobs"
    assert server.asked == [
        f"POST {base}",
        f"GET {base}/train-1",
        f"PATCH {base}/train-1",
        f"DELETE {base}/train-1?propagationPolicy=Foreground",
        f"GET {base}?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dtitrate",
        "GET /api/v1/namespaces/pipelines/pods?labelSelector=titrate.dev%2Fjob%3Dtrain-1",
    ]


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (403, UserError, "lacks a permission.*kustomize/base/jobs"),
        (404, UserError, "is Kubeflow Trainer 2 installed"),
        (409, TemporaryError, "409"),
        (422, PermanentError, "refuses trainjobs/train-1: 422"),
        (503, TemporaryError, "503"),
    ],
)
def test_a_refusal_says_what_to_change(cluster: Cluster, server, status: int, error: type, says: str) -> None:
    server.status = status
    with pytest.raises(error, match=says):
        cluster.create(TRAIN_JOBS, MANIFEST)


def test_what_is_not_there_is_no_error(cluster: Cluster, server) -> None:
    server.status = 404
    assert cluster.get(TRAIN_JOBS, "train-1") is None
    assert cluster.jobs(TRAIN_JOBS) == []
    assert cluster.pod("step") is None
    assert cluster.log("node", None) == ""
    cluster.delete(TRAIN_JOBS, "train-1")


def test_the_log_of_a_container_that_starts_again_is_empty(cluster: Cluster, server) -> None:
    server.status = 400
    assert cluster.log("node", 5) == ""


def test_an_api_server_that_is_away_may_come_back(cluster: Cluster, server) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(TemporaryError, match="does not answer"):
        cluster.get(TRAIN_JOBS, "train-1")


def test_without_a_cluster_the_user_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(UserError, match="KUBECONFIG names no cluster"):
        Cluster.open()
