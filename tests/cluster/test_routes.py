"""The routers' contract over the real Gateway and two real InferenceServices, and weights that change under load."""

import contextlib
import re
import subprocess
import time
from collections import Counter

import httpx
import pytest

from core.errors import TemporaryError
from core.slo import Slo
from serving.rollout.cluster.inference_services import InferenceServices
from serving.rollout.cluster.kube import GRPC_ROUTES, HTTP_ROUTES, Kube
from serving.rollout.observations import Weights
from serving.rollout.presets import preset
from serving.rollout.routers.gateway_api import GatewayRouter
from tests.cluster.conftest import Load
from tests.router_contract import STABLE_ALONE, Routed, RouterContract, observed
from titrate.predict import HEADER, encode
from titrate.rollouts.checks import pictures

pytestmark = pytest.mark.cluster
ROUTES = {HTTP_ROUTES: "pills", GRPC_ROUTES: "pills"}
CHANGES = (10, 50, 90, 30, 0)
SECONDS_EACH = 4.0
COUNT = re.compile(r'^nv_inference_request_success\{[^}]*"pills"[^}]*\} (\S+)', re.MULTILINE)


@pytest.fixture(scope="module")
def kube():
    """The API server through `kubectl proxy`, which has the credentials of KUBECONFIG."""
    with subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True) as proxy:
        try:
            address = re.search(r"[\d.]+:\d+", proxy.stdout.readline()).group()
            with httpx.Client(base_url=f"http://{address}", trust_env=False) as client:
                yield Kube(client)
        finally:
            proxy.terminate()


@pytest.fixture(scope="module")
def routed(cluster, kube, release, candidates):
    candidate = candidates["good"].digest
    servers = InferenceServices(kube, cluster.namespace, "pills", lambda: "pills-stable")
    servers.start(candidate)
    cluster.until(lambda: servers.report(candidate).ready, "the candidate is ready", 120)
    one = made(cluster, kube, release.digest, candidate, servers.name(candidate))
    stored = one.router.store_stable()
    yield one
    one.router.restore(stored)
    servers.stop(candidate)


def made(cluster, kube, stable, candidate, name):
    """What the contract asks of a router under test."""
    url = f"http://{cluster.gateway()}/v2/models/pills/infer"
    body, length = encode(pictures(1, 0))

    def send(number):
        with httpx.Client(timeout=20, trust_env=False) as client:
            answers = [client.post(url, content=body, headers={HEADER: str(length)}) for _ in range(number)]
        assert {one.status_code for one in answers} <= {200}, Counter(one.text[:200] for one in answers)
        return Counter(one.headers["x-titrate-release"] for one in answers)

    def copies():
        pods = cluster.get("pods", "-l", f"app=isvc.{name}-predictor")["items"]
        text = httpx.get(f"http://{pods[0]['status']['podIP']}:8002/metrics", trust_env=False).text
        return sum(float(number) for number in COUNT.findall(text))

    @contextlib.contextmanager
    def half_way():
        write = Kube.replace

        def refuse(self, kind, namespace, body):
            if kind == GRPC_ROUTES:
                raise TemporaryError("cut off")
            write(self, kind, namespace, body)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Kube, "replace", refuse)
            yield

    given = {"workload": "pills", "stable": stable, "candidate": candidate, "slo": Slo.load("pills")}
    spec = preset("canary", **given, labels=False, pairs=False)
    sticky = spec.routing.model_copy(update={"sticky_header": "x-user"})
    return Routed(
        router=GatewayRouter(kube, cluster.namespace, ROUTES, name, candidate),
        spec=spec,
        again=lambda: GatewayRouter(kube, cluster.namespace, ROUTES, name, candidate),
        send=send,
        copies=copies,
        half_way=half_way,
        refused={
            "baseline": spec.model_copy(update={"baseline": True}),
            "stickyHeader": spec.model_copy(update={"routing": sticky}),
        },
        seconds=40,
    )


class TestGateway(RouterContract): ...


def test_five_weight_changes_under_load_lose_no_request(cluster, routed):
    shares = {}
    with Load(f"http://{cluster.gateway()}/v2/models/pills/infer", threads=4) as load:
        for percent in CHANGES:
            weights = Weights(stable=100 - percent, candidate=percent)
            routed.router.apply(weights)
            observed(routed, weights, 0)
            assert not load.lost(), load.texts
            load.forget()
            time.sleep(SECONDS_EACH)
            found = load.by_release()
            shares[percent] = (found[routed.spec.candidate], found.total())
        assert not load.lost(), load.texts
    print("\n".join(f"{percent} %: {mine} of {every}" for percent, (mine, every) in shares.items()))
    for percent, (mine, every) in shares.items():
        assert every > 50
        assert abs(mine / every - percent / 100) < 0.1
    observed(routed, STABLE_ALONE, 0)
