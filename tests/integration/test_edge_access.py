"""Keys, tokens, rates, sizes and TLS at a real Envoy, from the files of a home: each way in, and each refusal."""

import contextlib
import json
import socket
import ssl
import stat
import subprocess
import threading
import time

import httpx
import jwt
import numpy as np
import pytest
import tritonclient.grpc
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from core.home import Home
from serving.gateway import envoy, envoy_admin
from serving.gateway.edge import Arm, EdgeConfig
from serving.triton.server import Ports, free_ports
from tests.colours import RELEASE, picture
from tests.conftest import wait_until
from titrate.predict import HEADER, decode, encode
from titrate.stack.access import access, add_key, remove_key

ISSUER, AUDIENCE = "https://id.example.org", "pills"
LIMIT = 200_000


class Edge:
    """An Envoy as the files of a home say."""

    def __init__(self, root, triton, policy):
        self.home, self.files = Home(root), root / "stack" / "envoy"
        root.mkdir(exist_ok=True)
        self.policy(policy)
        self.ports = free_ports()
        self.arms = (arm("pills", triton.ports),)
        self.write()
        self.scheme = "https" if "tls" in policy else "http"
        self.url = f"{self.scheme}://localhost:{self.ports.http}"
        self.internal = f"http://127.0.0.1:{self.ports.grpc}"

    def policy(self, policy):
        (self.home.root / "edge.json").write_text(json.dumps(policy))

    def write(self):
        config = EdgeConfig(
            port=self.ports.http,
            internal_port=self.ports.grpc,
            admin_port=self.ports.metrics,
            access_log=str(self.home.root / "access.log"),
            gateway_port=1,
            arms=self.arms,
            access=access(self.home),
        )
        self.versions = envoy.write(config, self.files)

    def apply(self):
        """Read the home's files again, as the stack does; returns when Envoy has applied them."""
        self.write()
        wait_until(lambda: envoy_admin.versions(self.ports.metrics) == self.versions)

    def client(self, **headers):
        trusted = ssl.create_default_context()
        if self.scheme == "https":
            trusted.load_verify_locations(self.home.keys / "edge-cert.pem")
        return httpx.Client(base_url=self.url, verify=trusted, headers=headers, timeout=20, trust_env=False)

    @contextlib.contextmanager
    def running(self):
        self.home.stack.mkdir(exist_ok=True)
        with (self.home.stack / "envoy.log").open("wb") as log:
            process = subprocess.Popen(envoy.command(self.files, 1, 35), stderr=log)
        try:
            wait_until(lambda: envoy_admin.is_ready(self.ports.metrics))
            yield self
        finally:
            process.terminate()
            process.wait(20)


def arm(workload, ports):
    places = {"http_port": ports.http, "grpc_port": ports.grpc}
    return Arm(workload=workload, name="stable", release=RELEASE, weight=100, **places)


def ask(client, **more):
    body, length = encode([picture("blue")])
    headers = {HEADER: str(length), **more.pop("headers", {})}
    return client.post("/v2/models/pills/infer", content=body, headers=headers, **more)


@pytest.fixture(scope="module")
def issuer():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def edge(tmp_path_factory, triton, issuer):
    root = tmp_path_factory.mktemp("access")
    key = json.loads(ECAlgorithm.to_jwk(issuer.public_key())) | {"kid": "one", "alg": "ES256"}
    (root / "jwks.json").write_text(json.dumps({"keys": [key]}))
    policy = {
        "jwt": {"issuer": ISSUER, "audiences": [AUDIENCE], "jwks": str(root / "jwks.json")},
        "rate": {"per_second": 2000, "burst": 2000},
        "rates": {"slow": {"per_second": 1, "burst": 3}},
        "tls": {},
        "max_body_bytes": LIMIT,
    }
    for name in ("app", "slow"):
        add_key(Home(root), name)
    with Edge(root, triton, policy).running() as one:
        yield one


@pytest.fixture(scope="module")
def keys(edge):
    return access(edge.home).keys


def token(issuer, **changes):
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": int(time.time()) + 600, **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, issuer, "ES256", headers={"kid": "one"})


def test_a_key_opens_rest_and_grpc(edge, keys):
    with edge.client(**{"x-api-key": keys["app"]}) as client:
        answer = ask(client)
    assert decode(answer.content, int(answer.headers[HEADER]))["label"] == ["blue"]
    root = str(edge.home.keys / "edge-cert.pem")
    place = edge.url.removeprefix("https://")
    with contextlib.closing(tritonclient.grpc.InferenceServerClient(place, ssl=True, root_certificates=root)) as grpc:
        tensor = tritonclient.grpc.InferInput("pixels", [1, 8, 8, 3], "UINT8")
        tensor.set_data_from_numpy(np.full((1, 8, 8, 3), (0, 0, 255), np.uint8))
        found = grpc.infer("pills", [tensor], headers={"x-api-key": keys["app"]})
        assert found.as_numpy("label").tolist() == [[b"blue"]]
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="UNAUTHENTICATED"):
            grpc.infer("pills", [tensor])


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "wrong"}, {"x-api-key": ""}, {"x-titrate-user": "app"}])
def test_without_a_right_key_nobody_is_answered(edge, headers):
    with edge.client(**headers) as client:
        answer = ask(client)
        assert (answer.status_code, list(answer.json())) == (401, ["error"])
        problem = client.post("/v1/predict", headers={"x-request-id": "r-7"})
    assert problem.headers["content-type"] == "application/problem+json"
    assert {name: problem.json()[name] for name in ("status", "code", "type", "request_id")} == {
        "status": 401,
        "code": "unauthorized",
        "type": "urn:titrate:problem:unauthorized",
        "request_id": "r-7",
    }


def test_a_token_opens_too(edge, issuer):
    with edge.client(authorization=f"Bearer {token(issuer)}") as client:
        assert ask(client).status_code == 200


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"exp": 1_600_000_000}, 401),
        ({"exp": None}, 401),
        ({"aud": "lens"}, 403),
        ({"iss": "https://evil.example.org"}, 401),
        ({"nbf": 4_000_000_000}, 401),
    ],
)
def test_a_token_that_is_not_for_now_and_here_is_refused(edge, issuer, changes, status):
    with edge.client(authorization=f"Bearer {token(issuer, **changes)}") as client:
        assert ask(client).status_code == status


def test_a_token_of_somebody_else_is_refused_also_beside_a_right_key(edge, keys):
    forged = token(ec.generate_private_key(ec.SECP256R1()))
    unsigned = jwt.encode({"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600}, None, "none")
    for bad in (f"Bearer {forged}", f"Bearer {unsigned}", "Bearer x", "Basic eA==", ""):
        with edge.client(authorization=bad, **{"x-api-key": keys["app"]}) as client:
            assert ask(client).status_code == 401, bad


def test_probes_need_no_key(edge):
    with edge.client() as client:
        assert client.get("/v2/health/ready").status_code == 200
        assert client.get("/v2").status_code == 401


def test_above_its_rate_a_key_gets_429_and_costs_no_other(edge, keys):
    with edge.client(**{"x-api-key": keys["slow"], "x-titrate-user": "app"}) as slow:
        answers = [ask(slow) for _ in range(12)]
    with edge.client(**{"x-api-key": keys["app"]}) as client:
        assert ask(client).status_code == 200
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert len(answers) - len(refused) >= 3


def test_a_body_above_the_limit_is_413(edge, keys):
    with edge.client(**{"x-api-key": keys["app"]}) as client:
        assert client.post("/v2/models/pills/infer", content=b"x" * (LIMIT + 1)).status_code == 413
        problem = client.post("/v1/predict", content=b"x" * (LIMIT + 1))
        assert (problem.status_code, problem.json()["code"]) == (413, "too_large")


def test_tls_1_2_is_refused(edge):
    for version, accepted in ((ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)):
        context = ssl.create_default_context(cafile=edge.home.keys / "edge-cert.pem")
        context.minimum_version = context.maximum_version = version
        with socket.create_connection(("localhost", edge.ports.http), timeout=10) as plain:
            refused = contextlib.nullcontext() if accepted else pytest.raises(ssl.SSLError)
            with refused, context.wrap_socket(plain, server_hostname="localhost") as secure:
                assert secure.version() == "TLSv1.3"


def test_the_internal_listener_asks_for_nothing(edge):
    with httpx.Client(base_url=edge.internal, timeout=20) as client:
        assert ask(client).status_code == 200


def test_secrets_are_for_the_owner_alone(edge):
    files = [edge.home.keys / "api-keys.json", edge.home.keys / "edge-key.pem", *edge.files.glob("*.json")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_the_log_names_the_user_and_holds_no_key(edge, keys, issuer):
    size = len(encode([picture("blue")])[0])
    with edge.client(authorization=f"Bearer {token(issuer)}") as client:
        ask(client)
    log = edge.home.root / "access.log"

    def told(field):
        return {json.loads(line)[field] for line in log.read_text().splitlines()}

    wait_until(lambda: {"ann", "app", "slow"} <= told("user"))
    assert size in told("bytes_in")
    assert not any(key in log.read_text() for key in keys.values())


def test_keys_come_and_go_under_traffic_and_no_request_is_lost(edge, keys):
    """Four clients that reuse their connections, through six changes of the listener's configuration."""
    failed, stop, done = [], threading.Event(), []

    def traffic():
        with edge.client(**{"x-api-key": keys["app"]}) as client:
            while not stop.is_set():
                try:
                    answer = ask(client)
                except httpx.TransportError as error:
                    failed.append(repr(error))
                    continue
                done.append(1)
                if answer.status_code != 200:
                    failed.append(answer.text)

    threads = [threading.Thread(target=traffic) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            new = add_key(edge.home, "guest")
            edge.apply()
            with edge.client(**{"x-api-key": new}) as guest:
                wait_until(lambda: ask(guest).status_code == 200)
                remove_key(edge.home, "guest")
                edge.apply()
                wait_until(lambda: ask(guest).status_code == 401)
            already = len(done)
            wait_until(lambda already=already: len(done) > already + 100)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert failed == []


@pytest.fixture
def recorder(serve):
    """(ports, headers seen, event that lets answers go): stands in for a model server that can be made slow."""
    seen, go = [], threading.Event()

    def answer(request):
        seen.append(dict(request.headers))
        go.wait(20)
        return JSONResponse({})

    url = serve(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])]))
    yield Ports(int(url.rsplit(":", 1)[1]), 1, 1), seen, go
    go.set()


def test_what_is_too_much_at_once_is_503_with_retry_after_and_not_queued(tmp_path, triton, recorder):
    ports, seen, go = recorder
    edge = Edge(tmp_path / "home", triton, {"max_in_flight": 2})
    edge.arms = (arm("echo", ports),)
    edge.write()
    answers = []

    def one():
        with edge.client() as client:
            answers.append(client.post("/v2/models/echo/infer", content=b"x"))

    with edge.running():
        threads = [threading.Thread(target=one) for _ in range(12)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) == 8)  # two at the server, two wait for their connections
        assert {(a.status_code, a.headers["retry-after"]) for a in answers} == {(503, "1")}
        go.set()
        for thread in threads:
            thread.join(20)
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [503] * 8
    assert len(seen) == 4


def test_request_ids_and_trace_context_pass(tmp_path, triton, recorder):
    ports, seen, go = recorder
    go.set()
    edge = Edge(tmp_path / "home", triton, {})
    edge.arms = (arm("echo", ports),)
    edge.write()
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "k=v", "x-request-id": "r-1"}
    with edge.running(), edge.client() as client:
        answer = client.post("/v2/models/echo/infer", headers={**trace, "x-titrate-user": "root"})
        assert answer.headers["x-request-id"] == "r-1"
        assert len(client.post("/v2/models/echo/infer").headers["x-request-id"]) == 36
    assert {name: seen[0].get(name) for name in trace} == trace
    assert "x-titrate-user" not in seen[0]
