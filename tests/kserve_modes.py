"""The API server in memory with KServe's two ways of splitting one InferenceService, as its controller does it.

Knative: which revision gets the rest is decided as in `createKnativeService` and `PropagateStatus` of KServe 0.20, with
the case of a newest revision that had everything. Canary: the weights of both HTTPRoutes as KServe 0.21 writes them.
"""

import copy
from collections import Counter
from typing import Any

import httpx

from serving.rollout.cluster.canaries import service_of
from serving.rollout.cluster.inference_services import digest, digest_of
from serving.rollout.cluster.revisions import PERCENT
from serving.rollout.routers.kserve_canary import CONTROLLER
from tests.api_server import NAMESPACE, TOLD, ApiServer

Json = dict[str, Any]
NAME = "pills-stable"
SERVICES = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices"
ROUTES = f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes"


class OneServiceServer(ApiServer):
    """KServe acts on every write of the InferenceService."""

    mode = ""

    def settle(self) -> None:
        """Act on the InferenceService as it is."""
        self._reconcile(self.get(f"inferenceservices/{NAME}"))

    def _change(self, method: str, place: str, known: Json, body: Json) -> httpx.Response:
        before = copy.deepcopy(known.get("spec"))
        answer = super()._change(method, place, known, body)
        if place == f"{SERVICES}/{NAME}" and method == "PATCH":
            known["metadata"]["generation"] += known["spec"] != before
            self._reconcile(known)
        return answer

    def _reconcile(self, service: Json) -> None:
        if self.deaf:
            return
        status = service.setdefault("status", {})
        status |= {"deploymentMode": self.mode, "observedGeneration": service["metadata"]["generation"]}
        self._act(service, status)

    def _act(self, service: Json, status: Json) -> None:
        raise NotImplementedError

    def _split(self, shares: Counter[str], number: int) -> Counter[str]:
        names = list(shares)
        drawn = self._random.multinomial(number, [shares[name] / shares.total() for name in names])
        return Counter({name: int(n) for name, n in zip(names, drawn, strict=True) if n})


class KnativeServer(OneServiceServer):
    """Serverless mode."""

    mode = "Knative"

    def _act(self, service: Json, status: Json) -> None:
        found = status.setdefault("components", {}).setdefault("predictor", {})
        predictor = {name: part for name, part in service["spec"]["predictor"].items() if name != PERCENT}
        template = (predictor, service["metadata"].get("annotations", {}))  # KServe copies annotations to revisions
        if template != getattr(self, "_template", None):
            self._template = copy.deepcopy(template)
            self._made = getattr(self, "_made", 0) + 1
            self._revision(f"{NAME}-predictor-{self._made:05d}", service)
            found["latestCreatedRevision"] = f"{NAME}-predictor-{self._made:05d}"
        self._run(NAME, digest(service), pod=found["latestCreatedRevision"])
        for _ in range(3):
            self._pass(found, service["spec"]["predictor"].get(PERCENT))

    def _revision(self, name: str, service: Json) -> None:
        model = service["spec"]["predictor"]["model"]
        revision = {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "env": model.get("env", [])}]}}
        self.put(f"/apis/serving.knative.dev/v1/namespaces/{NAMESPACE}/revisions", revision)

    def _pass(self, found: Json, percent: int | None) -> None:
        rolled, created = found.get("latestRolledoutRevision", ""), found["latestCreatedRevision"]
        ready = created if self.ready else found.get("latestReadyRevision", "")
        split = percent is not None and rolled
        newest = {"revisionName": ready, "latestRevision": True, "percent": percent if split else 100}
        rest = [{"revisionName": rolled, "percent": 100 - percent}] if split and percent < 100 else []
        found |= {"latestReadyRevision": ready, "traffic": [newest, *rest] if ready else []}
        if rolled != ready and newest["percent"] == 100:
            found |= {"previousRolledoutRevision": rolled, "latestRolledoutRevision": ready}
        elif rolled == ready == created and newest["percent"] < 100 and found.get("previousRolledoutRevision"):
            found["latestRolledoutRevision"] = found[
                "previousRolledoutRevision"
            ]  # it had everything and was taken back

    def send(self, number: int, route: str = "") -> Counter[str]:
        """Requests of clients; answers by release."""
        shares: Counter[str] = Counter()
        for target in self.get(f"inferenceservices/{NAME}")["status"]["components"]["predictor"]["traffic"]:
            revision = self.get(f"revisions/{target['revisionName']}")
            shares[digest_of(revision["spec"]["containers"][0])] += target["percent"]
        return self._split(shares, number)


class CanaryServer(OneServiceServer):
    """Standard mode, of this version of KServe."""

    mode = "Standard"

    def __init__(self, version: str = "v0.21.0") -> None:
        super().__init__()
        container = {"name": "manager", "image": f"kserve/kserve-controller:{version}"}
        spec = {"template": {"spec": {"containers": [container]}}}
        self.put(
            "/apis/apps/v1/namespaces/kserve/deployments",
            {"metadata": {"name": CONTROLLER, "labels": {}}, "spec": spec},
        )

    def _act(self, service: Json, status: Json) -> None:
        spec = service["spec"]
        entries = spec.get("canary", [])
        left = 100 - sum(entry["trafficPercent"] for entry in entries)
        arms = [(spec["predictor"], left), *((entry["predictor"], entry["trafficPercent"]) for entry in entries)]
        refs = []
        for predictor, weight in arms:
            name = service_of(NAME, predictor.get("name", ""))
            refs.append({"name": name, "port": 80, "weight": weight})
            self._run(NAME, digest_of(predictor["model"]), pod=name)
        self._releases = {service_of(NAME, p.get("name", "")): digest_of(p["model"]) for p, _ in arms}
        for name in (NAME, f"{NAME}-predictor"):
            route = {"kind": "HTTPRoute", "metadata": {"name": name}, "spec": {"rules": [{"backendRefs": refs}]}}
            made = self.put(ROUTES, route)
            told = [{"type": t, "status": "True", "observedGeneration": made["metadata"]["generation"]} for t in TOLD]
            made["status"] = {"parents": [{"conditions": told}]}

    def send(self, number: int, route: str = "") -> Counter[str]:
        """Requests of clients; answers by release."""
        refs = self.get(f"httproutes/{NAME}")["spec"]["rules"][0]["backendRefs"]
        return self._split(Counter({self._releases[ref["name"]]: ref["weight"] for ref in refs}), number)
