"""The routers' contract over one InferenceService: Knative's revisions, and KServe's own canary."""

from collections import Counter

import pytest

from core.errors import PermanentError, TemporaryError, UserError
from core.slo import Slo
from serving.rollout.cluster.canaries import Canaries
from serving.rollout.cluster.inference_services import digest
from serving.rollout.cluster.one_service import OneService
from serving.rollout.cluster.revisions import PERCENT, Revisions
from serving.rollout.observations import Weights
from serving.rollout.presets import preset
from serving.rollout.routers.knative import KnativeRouter
from serving.rollout.routers.kserve_canary import CanaryRouter
from tests.api_server import CANDIDATE, NAMESPACE, STABLE
from tests.kserve_modes import NAME, SERVICES, CanaryServer, KnativeServer
from tests.router_contract import Routed, RouterContract

SPEC = preset(
    "ten_fifty_hundred", workload="pills", stable=STABLE, candidate=CANDIDATE, slo=Slo.load("pills"), labels=False
)
OTHER = "c" * 64
STICKY = SPEC.model_copy(update={"routing": SPEC.routing.model_copy(update={"sticky_header": "x-user"})})
REFUSED = {"no third arm": SPEC.model_copy(update={"baseline": True}), "stickyHeader": STICKY}


def one(api):
    return OneService(api.kube(), NAMESPACE, NAME, "pills")


def knative(api, release=CANDIDATE):
    return KnativeRouter(one(api), release)


def canary(api, release=CANDIDATE):
    return CanaryRouter(one(api), release, "kserve")


def service(api):
    return api.get(f"inferenceservices/{NAME}")


def routed_by(api, router, servers):
    servers(one(api)).start(CANDIDATE)
    return Routed(router=router(api), spec=SPEC, again=lambda: router(api), send=api.send, refused=REFUSED)


class TestKnative(RouterContract):
    @pytest.fixture(scope="class")
    @classmethod
    def routed(cls):
        return routed_by(KnativeServer(), knative, Revisions)


class TestCanary(RouterContract):
    @pytest.fixture(scope="class")
    @classmethod
    def routed(cls):
        return routed_by(CanaryServer(), canary, Canaries)


@pytest.mark.parametrize(
    ("api", "router", "servers"), [(KnativeServer, knative, Revisions), (CanaryServer, canary, Canaries)]
)
def test_a_candidate_starts_without_a_request_and_leaves_without_a_trace(api, router, servers):
    api = api()
    before = service(api)["spec"]["predictor"]
    stored = router(api).store_stable()
    api.ready = False
    servers(one(api)).start(CANDIDATE)
    assert not servers(one(api)).report(CANDIDATE).ready
    assert api.send(50) == Counter({STABLE: 50})
    api.ready = True
    api.settle()
    servers(one(api)).start(CANDIDATE)
    assert servers(one(api)).report(CANDIDATE).ready
    assert servers(one(api)).release_of(NAME) == STABLE
    router(api).apply(Weights(stable=50, candidate=50))
    assert api.send(50)[CANDIDATE] > 0
    router(api).restore(stored)
    servers(one(api)).stop(CANDIDATE)
    left = {name: part for name, part in service(api)["spec"]["predictor"].items() if name != PERCENT}
    assert left == before and "canary" not in service(api)["spec"]
    assert api.send(50) == Counter({STABLE: 50})
    servers(one(api)).start(OTHER)
    router(api, OTHER).apply(Weights(stable=0, candidate=100))
    router(api, OTHER).promote(OTHER)
    assert api.send(50) == Counter({OTHER: 50})
    assert servers(one(api)).release_of(NAME) == OTHER
    assert router(api, CANDIDATE).observed_weight().weights == Weights(stable=100, candidate=0)


def test_a_candidate_that_had_everything_is_taken_back_before_anything_newer_is_written():
    """KServe would leave it everything: it takes the newest revision for stable until it acted on the smaller share."""
    api = KnativeServer()
    Revisions(one(api)).start(CANDIDATE)
    stored = knative(api).store_stable()
    knative(api).apply(Weights(stable=0, candidate=100))
    api.deaf = True
    knative(api).restore(stored)
    for call in (lambda: Revisions(one(api)).stop(CANDIDATE), lambda: Revisions(one(api)).start(OTHER)):
        with pytest.raises(TemporaryError, match="is not taken back yet"):
            call()
    api.deaf = False
    api.settle()
    assert api.send(50) == Counter({STABLE: 50})
    Revisions(one(api)).stop(CANDIDATE)
    assert digest(service(api)) == STABLE
    assert api.send(50) == Counter({STABLE: 50})


def test_a_canary_of_somebody_else_is_in_the_way():
    api = KnativeServer()
    service(api)["spec"]["predictor"][PERCENT] = 10
    with pytest.raises(PermanentError, match=f"has a canary already \\({PERCENT}: 10\\)"):
        knative(api).check(SPEC)
    api = CanaryServer()
    service(api)["spec"]["canary"] = [{"trafficPercent": 5, "predictor": {"name": "theirs", "model": {}}}]
    with pytest.raises(PermanentError, match="has a canary already, 'theirs'"):
        Canaries(one(api)).start(CANDIDATE)


def test_the_wrong_mode_is_refused_with_the_router_that_fits():
    with pytest.raises(
        UserError, match=rf"mode 'Standard'; {PERCENT} is ignored there; use target\.router gateway_api"
    ):
        knative(CanaryServer()).check(SPEC)
    api = KnativeServer()
    api.put("/apis/apps/v1/namespaces/kserve/deployments", CanaryServer().get("deployments/kserve-controller-manager"))
    with pytest.raises(
        UserError, match=r"mode 'Knative'; spec\.canary is for Standard mode; use target\.router knative"
    ):
        canary(api).check(SPEC)


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (
            "v0.20.0",
            r"KServe 0\.20 makes a Deployment for spec\.canary and sends it no request \(from 0\.21 on it does",
        ),
        ("latest", "neither its label nor its images say KServe's version"),
    ],
)
def test_kserve_that_does_not_split_is_refused_before_anything_changes(version, reason):
    api = CanaryServer(version)
    before = service(api)["spec"]
    with pytest.raises(UserError, match=reason):
        canary(api).check(SPEC)
    assert service(api)["spec"] == before


def test_shares_that_kserve_has_not_acted_on_are_unknown():
    for server, router, servers in ((KnativeServer, knative, Revisions), (CanaryServer, canary, Canaries)):
        api = server()
        servers(one(api)).start(CANDIDATE)
        api.deaf = True
        router(api).apply(Weights(stable=90, candidate=10))
        seen = router(api).observed_weight().weights
        assert seen is None or seen == Weights(stable=100, candidate=0)
        api.deaf = False
        api.put(SERVICES, service(api))
        assert router(api).observed_weight().weights == Weights(stable=90, candidate=10)


def test_a_stable_release_that_a_promotion_removed_is_ready_before_it_gets_requests():
    api = CanaryServer()
    Canaries(one(api)).start(CANDIDATE)
    stored = canary(api).store_stable()
    canary(api).apply(Weights(stable=0, candidate=100))
    canary(api).promote(CANDIDATE)
    del api.objects[f"/api/v1/namespaces/{NAMESPACE}/pods/{NAME}-predictor-pod"]  # as KServe does
    api.ready = False
    with pytest.raises(Exception, match="stable's pods are not ready yet"):
        canary(api).restore(stored)
    assert api.send(50) == Counter({CANDIDATE: 50})
    api.ready = True
    api.settle()
    canary(api).restore(stored)
    assert api.send(50) == Counter({STABLE: 50})
