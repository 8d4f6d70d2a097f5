"""The gateway in front of a real Triton and a real feedback service."""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
from concurrent import futures

import grpc
import httpx
import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from tritonclient.grpc import service_pb2 as v2

from serving.feedback.app import create_app as create_feedback
from serving.feedback.store import open_store
from serving.gateway.app import create_app
from serving.gateway.problems import Code
from serving.gateway.settings import Settings
from serving.triton.server import running
from tests.colours import LABELS, RELEASE, picture, write_repository
from tests.conftest import served, wait_until

BAD = b"not an image"


@contextlib.contextmanager
def gateway(upstream, **changes):
    """A client of a gateway that is ready (unless `ready=False`)."""
    ready = changes.pop("ready", True)
    app = create_app(Settings(upstream=upstream, workloads=("pills",), **changes))
    with served(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        if ready:
            wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.fixture(scope="module")
def feedback_url(tmp_path_factory):
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('feedback') / 'f.db'}")
    with served(create_feedback(store)) as url:
        yield url
    store.engine.dispose()


@pytest.fixture(scope="module")
def client(triton, feedback_url):
    limits = {"max_image": 20_000, "max_body": 100_000, "max_images": 20, "upload_time": 1.0}
    with gateway(triton.grpc_url, feedback_url=feedback_url, **limits) as opened:
        yield opened


def upload(client, *contents, **more):
    return client.post("/v1/predict", files=[("image", ("a.png", content)) for content in contents], **more)


def requests(client, path, status):
    """How many requests the gateway has counted."""
    name = re.escape(f'titrate_gateway_requests_total{{path="{path}",status="{status}"}}')
    found = re.search(rf"^{name} (.+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def problem(answer, code):
    """The problem document, checked for what every one must have."""
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (document["code"], document["status"]) == (code.slug, answer.status_code) == (code.slug, code.value[0])
    assert document["type"] == f"urn:titrate:problem:{code.slug}"
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


def test_an_upload_is_answered_with_all_that_a_client_needs(client):
    (item,) = upload(client, picture("green")).json()["predictions"]
    assert item["label"] == "green"
    assert item["release"] == RELEASE
    assert item["probability"] > 0.99
    assert item["top"][0]["label"] == "green"
    assert sorted(row["label"] for row in item["top"]) == sorted(LABELS)
    assert sum(row["probability"] for row in item["top"]) == pytest.approx(1.0)
    assert item["abstain"] is False
    assert item["prediction_id"].endswith("-0")


def test_base64_and_uploads_get_equal_answers(client):
    image = picture((200, 180, 10), kind="JPEG")
    document = {"image": base64.b64encode(image).decode()}
    answers = [upload(client, image), client.post("/v1/predict", json=document)]
    found = [answer.json()["predictions"][0] for answer in answers]
    assert found[0].pop("prediction_id") != found[1].pop("prediction_id")
    assert found[0] == found[1]


def test_many_images_are_answered_in_order_and_a_bad_one_fails_alone(client):
    colours = [LABELS[i % 3] for i in range(20)]
    images = [picture(colour) for colour in colours]
    images[11] = BAD
    items = upload(client, *images).json()["predictions"]
    assert len(items) == 20
    error = items.pop(11)["error"]
    assert (error["code"], error["reason"]) == ("bad_image", "not_an_image")
    assert [item["label"] for item in items] == [colour for i, colour in enumerate(colours) if i != 11]
    assert len({item["prediction_id"] for item in items}) == 19


def test_a_bad_image_alone_is_a_problem(client):
    document = problem(upload(client, BAD), Code.BAD_IMAGE)
    assert document["reason"] == "not_an_image"
    assert document["prediction_id"].endswith("-0")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"content": b"x"}, Code.UNSUPPORTED_MEDIA_TYPE),
        ({"json": {"image": "&"}}, Code.BAD_BASE64),
        ({"json": {"pixels": []}}, Code.BAD_REQUEST),
        ({"json": {"url": "http://127.0.0.1/x.jpg"}}, Code.URL_REFUSED),
        ({"files": [("image", b"x")] * 21}, Code.TOO_MANY_IMAGES),
        ({"files": {"image": b"x" * 20_001}}, Code.TOO_LARGE),
        ({"files": {"image": b"x" * 100_001}}, Code.TOO_LARGE),
        ({"content": b"cut", "headers": {"content-type": "multipart/form-data; boundary=b"}}, Code.BAD_MULTIPART),
        ({"json": {"image": ""}, "params": {"workload": "pils"}}, Code.UNKNOWN_WORKLOAD),
        ({"json": {"image": ""}, "params": {"model": "pills"}}, Code.BAD_REQUEST),
    ],
)
def test_each_failure_has_its_code(client, request_, code):
    problem(client.post("/v1/predict", **request_), code)


def test_what_the_framework_refuses_is_a_problem_too(client):
    problem(client.get("/v1/nothing"), Code.UNKNOWN_PATH)
    problem(client.get("/v1/predict"), Code.METHOD_NOT_ALLOWED)
    problem(client.delete("/v1/models"), Code.METHOD_NOT_ALLOWED)


def test_an_image_is_fetched_from_an_allowed_host(triton):
    app = Starlette(routes=[Route("/pill.png", lambda _request: Response(picture("blue")))])
    with served(app) as web:
        host = web.removeprefix("http://")
        with gateway(triton.grpc_url, url_hosts=(host,), url_networks=("127.0.0.0/8",)) as client:
            answer = client.post("/v1/predict", json={"url": f"{web}/pill.png"})
            assert answer.json()["predictions"][0]["label"] == "blue"
            problem(client.post("/v1/predict", json={"url": f"{web}/none.png"}), Code.URL_FAILED)
        with gateway(triton.grpc_url, url_hosts=(host,)) as client:
            problem(client.post("/v1/predict", json={"url": f"{web}/pill.png"}), Code.URL_REFUSED)


def test_a_defect_of_ours_is_a_problem_with_a_request_id(client, monkeypatch):
    def break_down(*_args, **_kwargs):
        raise RuntimeError("defect")

    monkeypatch.setattr("serving.gateway.upstream.read_answers", break_down)
    problem(upload(client, picture()), Code.INTERNAL)
    monkeypatch.setattr("serving.gateway.contract.ServedModels", break_down)
    problem(client.get("/v1/models"), Code.INTERNAL)
    wait_until(lambda: requests(client, "/v1/models", 500) == requests(client, "/v1/predict", 500) == 1)


def test_a_workload_can_be_named(client):
    assert upload(client, picture(), params={"workload": "pills"}).status_code == 200


def test_the_models_are_listed(client):
    assert client.get("/v1/models").json() == {"models": [{"workload": "pills", "versions": ["1"], "max_batch": 8}]}


def test_a_request_id_is_kept_and_a_wrong_one_replaced(client):
    assert client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = client.get("/healthz", headers={"x-request-id": "x" * 200}).headers["x-request-id"]
    assert len(made) == 32


def test_labels_reach_the_feedback_service_and_come_back_row_by_row(client):
    prediction = upload(client, picture()).json()["predictions"][0]["prediction_id"]
    rows = [{"prediction_id": prediction, "label": "red"}, {"prediction_id": "a b", "label": "red"}]
    report = client.post("/v1/labels", json={"labels": rows}).json()["rows"]
    assert [row["result"] for row in report] == ["waiting", "invalid"]
    problem(client.post("/v1/labels", content=b"{}"), Code.BAD_REQUEST)
    problem(client.post("/v1/labels", content=b" " * (4 * 2**20 + 1)), Code.TOO_LARGE)


def test_labels_without_a_feedback_service_are_503(triton):
    body = {"labels": []}
    with gateway(triton.grpc_url) as alone:
        problem(alone.post("/v1/labels", json=body), Code.FEEDBACK_UNAVAILABLE)
    with gateway(triton.grpc_url, feedback_url="http://127.0.0.1:1") as away:
        answer = away.post("/v1/labels", json=body)
        problem(answer, Code.FEEDBACK_UNAVAILABLE)
        assert answer.headers["retry-after"] == "1"


def test_metrics_count_requests_and_problems(client):
    upload(client, picture())
    upload(client, BAD)
    client.get("/v1/made-up-path")
    text = client.get("/metrics").text
    assert 'titrate_gateway_requests_total{path="/v1/predict",status="200"}' in text
    assert 'titrate_gateway_problems_total{code="bad_image"}' in text
    assert "titrate_gateway_upstream_ready 1.0" in text
    assert "titrate_gateway_buffered_bytes 0.0" in text
    assert 'path="other"' in text and "made-up-path" not in text


def test_answers_are_as_the_openapi_document_says(client):
    document = client.get("/v1/openapi.json").json()
    schemas = {"components": document["components"]}
    for answer, name in (
        (upload(client, picture(), BAD), "Predictions"),
        (upload(client, BAD), "ProblemDocument"),
        (client.get("/v1/models"), "ServedModels"),
        (client.post("/v1/labels", json={"labels": []}), "LabelReport"),
    ):
        jsonschema.validate(answer.json(), {"$ref": f"#/components/schemas/{name}", **schemas})
    assert set(document["paths"]) == {"/v1/predict", "/v1/labels", "/v1/models", "/healthz", "/readyz"}


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_fuzzed_requests_never_break_the_contract(client, mode):
    schema = schemathesis.openapi.from_url(str(client.base_url.join("/v1/openapi.json")))
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=25, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def fuzz(case):
            # A string that is no image is refused, and a label of the wrong type is reported in its row (200).
            case.call_and_validate(timeout=10, excluded_checks=[positive_data_acceptance, negative_data_rejection])

        with contextlib.suppress(Unsatisfiable):  # an operation without parameters has no wrong requests
            fuzz()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=5))
def test_uploads_of_garbage_are_refused_one_by_one(client, contents):
    answer = upload(client, *contents)
    if len(contents) == 1:
        problem(answer, Code.BAD_IMAGE)
    else:
        assert [item["error"]["code"] for item in answer.json()["predictions"]] == ["bad_image"] * len(contents)


@contextlib.contextmanager
def unfinished(client, path):
    """A connection that has sent the beginning of a body of 5,000 bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{{"
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as connection:
        connection.sendall(head.encode())
        yield connection


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/labels"])
def test_a_slow_upload_is_cut_off_and_others_are_served_meanwhile(client, path):
    with unfinished(client, path) as slow:
        assert upload(client, picture()).status_code == 200
        began = time.monotonic()
        answer = b""
        while chunk := slow.recv(10_000):  # until the connection is closed
            answer += chunk
        assert b" 408 " in answer.split(b"\r\n")[0]
        assert b"slow_upload" in answer
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(("path", "status"), [("/v1/predict", 499), ("/v1/labels", 400)])
def test_a_client_that_hangs_up_leaves_nothing_behind_and_is_no_error_of_ours(client, path, status):
    before = requests(client, path, status)
    with unfinished(client, path):
        wait_until(lambda: "titrate_gateway_buffered_bytes 1.0" in client.get("/metrics").text)
    wait_until(lambda: requests(client, path, status) == before + 1)
    text = client.get("/metrics").text
    assert "titrate_gateway_buffered_bytes 0.0" in text
    assert "titrate_gateway_in_flight_requests 0.0" in text


def test_too_many_requests_at_once_are_refused_at_once(triton):
    with gateway(triton.grpc_url, max_in_flight=1, upload_time=5.0) as client:
        with unfinished(client, "/v1/predict"):
            wait_until(lambda: "titrate_gateway_in_flight_requests 1.0" in client.get("/metrics").text)
            answer = upload(client, picture())
            problem(answer, Code.OVERLOADED)
            assert answer.headers["retry-after"] == "1"
        wait_until(lambda: upload(client, picture()).status_code == 200)


@pytest.fixture
def own_triton(tmp_path, triton_cache):
    """A Triton of this test's own, to hurt."""
    with running(write_repository(tmp_path), triton_cache, RELEASE) as server:
        yield server
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGCONT)


def test_a_killed_triton_turns_readiness_red_and_requests_get_503_at_once(own_triton):
    with gateway(own_triton.grpc_url) as client:
        assert upload(client, picture()).status_code == 200
        os.kill(own_triton.pid, signal.SIGKILL)
        wait_until(lambda: upload(client, picture()).status_code == 503)
        wait_until(lambda: client.get("/readyz").status_code == 503, seconds=3)
        for _ in range(5):
            began = time.monotonic()
            answer = upload(client, picture())
            assert time.monotonic() - began < 0.2
            problem(answer, Code.UNREADY)
            assert answer.headers["retry-after"] == "1"
        assert client.get("/healthz").status_code == 200


def test_a_hanging_triton_costs_a_request_its_deadline_and_then_nothing(own_triton):
    with gateway(own_triton.grpc_url, deadline=0.5) as client:
        os.kill(own_triton.pid, signal.SIGSTOP)
        began = time.monotonic()
        problem(upload(client, picture()), Code.DEADLINE)
        assert 0.4 < time.monotonic() - began < 2
        wait_until(lambda: client.get("/readyz").status_code == 503, seconds=10)
        began = time.monotonic()
        problem(upload(client, picture()), Code.UNREADY)
        assert time.monotonic() - began < 0.2
        os.kill(own_triton.pid, signal.SIGCONT)
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert upload(client, picture()).status_code == 200


def test_a_gateway_that_starts_before_triton_is_red_and_then_serves(triton):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        with gateway(nobody, ready=False) as client:
            problem(client.get("/readyz"), Code.UNREADY)
            problem(client.get("/v1/models"), Code.UNREADY)
            problem(upload(client, picture()), Code.UNREADY)


def test_an_envoy_deadline_shortens_our_own(own_triton):
    with gateway(own_triton.grpc_url, deadline=20.0) as client:
        os.kill(own_triton.pid, signal.SIGSTOP)
        began = time.monotonic()
        answer = upload(client, picture(), headers={"x-envoy-expected-rq-timeout-ms": "300"})
        problem(answer, Code.DEADLINE)
        assert time.monotonic() - began < 3


def test_concurrent_uploads_each_get_their_own_answer(client):
    wrong = []

    def send(number):
        with httpx.Client(base_url=client.base_url, timeout=30) as own:
            for turn in range(10):
                colour = LABELS[(number + turn) % 3]
                if upload(own, picture(colour)).json()["predictions"][0]["label"] != colour:
                    wrong.append(number)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.fixture
def recorder():
    """(host:port, calls): stands in for Envoy, since what Triton does with metadata cannot be seen from outside."""
    calls = []

    def infer(request, context):
        calls.append((dict(context.invocation_metadata()), context.time_remaining(), request.id))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "recorded")

    methods = {
        "ModelInfer": (infer, v2.ModelInferRequest),
        "ModelReady": (lambda *_: v2.ModelReadyResponse(ready=True), v2.ModelReadyRequest),
        "ModelMetadata": (lambda *_: v2.ModelMetadataResponse(versions=["1"]), v2.ModelMetadataRequest),
        "ModelConfig": (lambda *_: v2.ModelConfigResponse(), v2.ModelConfigRequest),
    }
    rpc = {
        name: grpc.unary_unary_rpc_method_handler(call, kind.FromString, lambda message: message.SerializeToString())
        for name, (call, kind) in methods.items()
    }
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_registered_method_handlers("inference.GRPCInferenceService", rpc)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", calls
    server.stop(None).wait()


def test_trace_context_workload_and_deadline_go_upstream(recorder):
    target, calls = recorder
    good = {"x-request-id": "r1", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "k=v"}
    with gateway(target, deadline=1.5) as client:
        problem(upload(client, picture(), headers=good), Code.MODEL_FAILED)
        upload(client, picture(), headers={"traceparent": "00-nonsense", "tracestate": "k=v"})
    first, second = (metadata for metadata, _, _ in calls)
    assert {name: first[name] for name in good} == good
    assert first["x-titrate-workload"] == "pills"
    assert "traceparent" not in second and "tracestate" not in second
    assert len(second["x-request-id"]) == 32
    assert 1.0 < calls[0][1] < 1.6  # gRPC rounds a timeout up
    assert calls[0][2] != calls[1][2]


def test_the_log_line_of_a_request_says_what_happened_and_holds_no_image(client, caplog):
    caplog.set_level("INFO", logger="titrate.gateway")
    upload(client, picture(), headers={"x-request-id": "logged-1"})
    wait_until(lambda: any("logged-1" in str(getattr(record, "facts", "")) for record in caplog.records))
    (facts,) = [r.facts for r in caplog.records if getattr(r, "facts", {}).get("request_id") == "logged-1"]
    assert (facts["status"], facts["images"], facts["workload"], facts["release"]) == (200, 1, "pills", RELEASE)
    assert len(json.dumps(facts)) < 500
