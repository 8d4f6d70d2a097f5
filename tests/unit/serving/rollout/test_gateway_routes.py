"""The routers' contract over routes of the Gateway API, and what a client could meet on every step of the way."""

import contextlib
from collections import Counter

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import PermanentError, TemporaryError, UserError
from core.slo import Slo
from serving.rollout.cluster.inference_services import InferenceServices, candidate
from serving.rollout.cluster.kube import GRPC_ROUTES, HTTP_ROUTES, INFERENCE_SERVICES
from serving.rollout.metrics import Compared, Query
from serving.rollout.observations import Weights
from serving.rollout.observers.envoy_gateway import EnvoyGateway, gateway_of
from serving.rollout.observers.samples import Pods, Prometheus
from serving.rollout.presets import preset
from serving.rollout.routers import gateway_api, twins
from serving.rollout.routers.backends import Member, Shares
from serving.rollout.routers.gateway_api import GatewayRouter
from tests.api_server import CANDIDATE, GATEWAYS, NAMESPACE, STABLE, ApiServer, inference_service, routes
from tests.router_contract import Routed, RouterContract

ROUTES = {HTTP_ROUTES: "pills", GRPC_ROUTES: "pills"}
SPEC = preset("canary", workload="pills", stable=STABLE, candidate=CANDIDATE, slo=Slo.load("pills"), labels=False)
NEW = f"pills-{CANDIDATE[:10]}"


@pytest.fixture(scope="module", autouse=True)
def at_once():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gateway_api, "SETTLES", 0.0)
        patched.setattr(gateway_api, "PATIENCE", 0.1)
        yield


def servers(api):
    return InferenceServices(api.kube(), NAMESPACE, "pills", lambda: "pills-stable")


def router(api):
    return GatewayRouter(api.kube(), NAMESPACE, ROUTES, NEW, CANDIDATE)


@pytest.fixture(scope="module")
def routed():
    api = ApiServer()
    servers(api).start(CANDIDATE)

    @contextlib.contextmanager
    def half_way():
        api.denied.add(("PUT", "grpcroutes"))
        yield
        api.denied.clear()

    return Routed(
        router=router(api),
        spec=SPEC,
        again=lambda: router(api),
        send=lambda number: api.send(number, "httproutes/pills") if number > 50 else both(api, number),
        copies=lambda: api.copied,
        half_way=half_way,
        refused={
            "baseline": SPEC.model_copy(update={"baseline": True}),
            "stickyHeader": SPEC.model_copy(
                update={"routing": SPEC.routing.model_copy(update={"sticky_header": "x-user"})}
            ),
        },
    )


def both(api, number):
    """Half over REST, half over gRPC."""
    return api.send(number // 2 or 1) + api.send(number - (number // 2 or 1), "grpcroutes/pills") + Counter()


class TestGatewayRoutes(RouterContract): ...


Asked = st.tuples(st.integers(0, 100), st.sampled_from([0, 10, 100]))


@settings(max_examples=25, deadline=None)
@given(st.lists(Asked, min_size=1, max_size=5))
def test_no_backend_gets_its_first_share_in_a_rule_that_clients_reach_before_its_cluster_is_known(wanted):
    """Every single write: all backends with a share in the active rule had one in some rule before."""
    route = routes()[0] | {"metadata": {"name": "pills", "generation": 1}}
    new = Member(f"{NEW}-predictor", 80, CANDIDATE)
    original = route["spec"]["rules"]
    for percent, shadow in wanted:
        asked = Shares(Weights(stable=100 - percent, candidate=percent), shadow)
        route = walked(route, lambda now, asked=asked: twins.towards_shares(now, new, asked))
        assert twins.shares(route) == asked
    assert walked(route, lambda now: twins.towards_rules(now, new, original))["spec"]["rules"] == original


def walked(route, step):
    for _ in range(gateway_api.WRITES):
        changed = step(route)
        if changed == route:
            return route
        assert clusters(changed, active=True) <= clusters(route, active=False), (route, changed)
        route = changed
    raise AssertionError("the route does not come to rest")


def clusters(route, active):
    """(place, Service) of each backend that has a share, in the rules that clients reach, or in all."""
    found = set()
    for number, rule in enumerate(route["spec"]["rules"]):
        if active and any("headers" in match for match in rule["matches"]):
            continue
        for index, ref in enumerate(rule["backendRefs"]):
            if ref["weight"]:
                found.add((number, index, ref["name"]))
    return found


def test_a_route_that_the_gateway_does_not_take_over_is_unknown_and_asked_for_again():
    api = ApiServer()
    servers(api).start(CANDIDATE)
    assert router(api).observed_weight().weights == Weights(stable=100, candidate=0)
    api.deaf = True
    with pytest.raises(TemporaryError, match="did not take over"):
        router(api).apply(Weights(stable=90, candidate=10))
    assert router(api).observed_weight().weights is None
    api.deaf = False
    router(api).apply(Weights(stable=90, candidate=10))
    assert router(api).observed_weight().weights == Weights(stable=90, candidate=10)


def test_a_route_that_was_deleted_meanwhile_is_put_back():
    api = ApiServer()
    servers(api).start(CANDIDATE)
    stored = router(api).store_stable()
    router(api).apply(Weights(stable=50, candidate=50))
    for name in [name for name in api.objects if name.endswith("routes/pills")]:
        del api.objects[name]
    router(api).restore(stored)
    assert api.send(20) == Counter({STABLE: 20})


def test_a_route_with_two_unnamed_backends_is_refused_by_name():
    api = ApiServer()
    rule = api.get("httproutes/pills")["spec"]["rules"][0]
    rule["backendRefs"] = [{"name": name, "port": 80, "weight": 1} for name in ("one", "two")]
    with pytest.raises(PermanentError, match=r"HTTPRoute 'pills'.*one, two"):
        router(api).stable()


def test_an_adopted_service_is_copied_without_its_model_and_never_deleted():
    api = ApiServer()
    adopted = inference_service("theirs", "")
    adopted["spec"]["predictor"]["model"] = {"modelFormat": {"name": "onnx"}, "storageUri": "s3://x", "resources": {}}
    with pytest.raises(UserError, match="storageUri"):
        candidate(adopted, "new", "pills", CANDIDATE, None)
    made = candidate(adopted, "new", "pills", CANDIDATE, "s3://ours/{release}")
    model = made["spec"]["predictor"]["model"]
    assert model["runtime"] == "titrate-triton" and model["resources"] == {}
    assert model["storageUri"] == f"s3://ours/{CANDIDATE}"
    api.put(f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices", adopted)
    with pytest.raises(UserError, match="was not made by Titrate"):
        servers(api).retire("theirs")


def test_a_name_that_is_taken_by_another_release_is_refused():
    api = ApiServer()
    place = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices"
    api.put(place, inference_service(NEW, "c" * 64))
    with pytest.raises(PermanentError, match="is in the way"):
        servers(api).start(CANDIDATE)


def test_a_copy_that_is_still_being_removed_is_waited_for():
    """An attempt soon after a rollback: taken for its candidate, the old copy would vanish and never be made again."""
    api = ApiServer()
    servers(api).start(CANDIDATE)
    api.get(f"inferenceservices/{NEW}")["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(TemporaryError, match="still being removed"):
        servers(api).start(CANDIDATE)


def test_a_pod_says_why_it_is_not_ready():
    api = ApiServer()
    api.ready = False
    servers(api).start(CANDIDATE)
    pod = api.get(f"pods/{NEW}-pod")
    said = pod["status"]["containerStatuses"][0]
    assert not servers(api).report(CANDIDATE).ready
    said["state"] = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    assert servers(api).report(CANDIDATE).reason == "ErrImagePull: no such image"
    said["lastState"] = {"terminated": {"message": "'network.onnx' was changed\n"}}
    assert servers(api).report(CANDIDATE).reason == "'network.onnx' was changed"


def observer(api, prometheus=None):
    kube = api.kube()
    pods = Pods(kube, api.http(), GATEWAYS, lambda: gateway_of(kube, NAMESPACE, "pills"), 19001)
    return EnvoyGateway(kube, NAMESPACE, ROUTES, pods, prometheus)


def test_counts_are_by_arm_mirrored_ones_the_candidates():
    api = ApiServer()
    servers(api).start(CANDIDATE)
    router(api).apply(Weights(stable=75, candidate=25))
    api.failing = {CANDIDATE: 0.5}
    answers = api.send(400)
    router(api).apply(Weights(stable=100, candidate=0))
    router(api).shadow(100)
    api.send(100)
    found = Counter()
    for reading in observer(api).readings(SPEC):
        found[reading.arm, "all"] += sum(reading.counts["errors"])
        found[reading.arm, "bad"] += reading.counts["errors"][0]
    assert found["stable", "all"] == answers[STABLE] + 100 and found["candidate", "all"] == answers[CANDIDATE] + 100
    assert found["stable", "bad"] == 0 < found["candidate", "bad"]


def test_what_is_not_counted_is_refused_before_the_start():
    with pytest.raises(UserError, match="no bound of Envoy's histograms"):
        observer(ApiServer()).check(SPEC.model_copy(update={"slow_ms": 777}))
    waiting = SPEC.model_copy(update={"metrics": (Compared(name="accuracy", margin=0.1),)})
    with pytest.raises(UserError, match="'accuracy' is not counted by Envoy"):
        observer(ApiServer()).check(waiting)
    with pytest.raises(UserError, match="'agreement': Envoy compares no answers"):
        observer(ApiServer()).check(SPEC)
    own = Compared(name="reds", margin=0.1, query=Query(language="promql", bad="a", total="b"))
    with pytest.raises(UserError, match=r"spec\.target\.stats"):
        observer(ApiServer()).check(SPEC.model_copy(update={"metrics": (own,)}))


def test_a_metric_of_ones_own_is_a_pair_of_counters_in_prometheus():
    values = {"bad": ["1", "7"], "total": ["100", "50"]}

    def answer(request):
        query = request.url.params["query"]
        if query not in values:
            return httpx.Response(200, json={"data": {"resultType": "vector", "result": []}})
        arms = zip(("stable", "candidate"), values[query], strict=True)
        result = [{"metric": {"arm": arm, "ward": "3"}, "value": [0, value]} for arm, value in arms]
        return httpx.Response(200, json={"data": {"resultType": "vector", "result": result}})

    api = ApiServer()
    own = Compared(name="reds", margin=0.1, query=Query(language="promql", bad="bad", total="total"))
    spec = SPEC.model_copy(update={"metrics": (own,)})
    prometheus = Prometheus(httpx.Client(transport=httpx.MockTransport(answer)), "http://prometheus")
    found = {r.arm: r.counts["reds"] for r in observer(api, prometheus).readings(spec) if "reds" in r.counts}
    assert found == {"stable": (1, 99), "candidate": (7, 43)}


def test_a_gateway_without_pods_is_temporary_and_named():
    api = ApiServer()
    del api.objects[f"/api/v1/namespaces/{GATEWAYS}/pods/envoy-0"]
    with pytest.raises(TemporaryError, match="no pods of the gateway"):
        observer(api).readings(SPEC)


def test_a_refused_call_names_the_permission_and_an_absent_server_is_temporary():
    api = ApiServer()
    api.denied = {("GET", "inferenceservices")}
    kube = api.kube()
    with pytest.raises(UserError, match="cannot get inferenceservices"):
        kube.get(INFERENCE_SERVICES, NAMESPACE, "pills-stable")
    assert "cannot get" in next(iter(kube.forbidden.values()))
    api.denied.clear()
    kube.get(INFERENCE_SERVICES, NAMESPACE, "pills-stable")
    assert not kube.forbidden
