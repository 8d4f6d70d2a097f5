"""A Kubernetes API server in memory, as far as a rollout uses one, with a gateway that takes routes over at once.

What a real one does is tested on a real one (tests/cluster). This one can lose things, refuse and count on demand.
"""

import json
from collections import Counter, defaultdict
from typing import Any

import httpx
import numpy as np

from serving.rollout.cluster.inference_services import DIGEST_ENV, OF_SERVICE, digest
from serving.rollout.cluster.kube import Kube
from serving.rollout.observers.envoy_gateway import BOUNDS_MS, OWNER
from serving.rollout.routers.backends import RELEASE, header, is_parked

Json = dict[str, Any]
NAMESPACE, GATEWAYS = "titrate", "envoy-gateway-system"
STABLE, CANDIDATE = "a" * 64, "b" * 64
SLOW_MS = 1000


class ApiServer:
    """Objects by their address, and the traffic that its gateway counted."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.denied: set[tuple[str, str]] = set()
        """(method, part of the address) that the service account may not."""
        self.deaf = False
        """The gateway takes no route over."""
        self.ready = True
        """Whether new InferenceServices become ready."""
        self.failing: dict[str, float] = {}
        """Release -> share of its answers that are errors."""
        self.counts: dict[str, Counter[bool]] = defaultdict(Counter)
        self.copied = 0
        self._version = 0
        self._random = np.random.default_rng(0)
        self.put(f"/api/v1/namespaces/{GATEWAYS}/pods", gateway_pod())
        serving = f"/apis/serving.kserve.io/v1beta1/namespaces/{NAMESPACE}/inferenceservices"
        self.put(serving, inference_service("pills-stable", STABLE))
        for route in routes():
            kind = route["kind"].lower() + "s"
            self.put(f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/{kind}", route)

    def kube(self) -> Kube:
        """The client under test."""
        return Kube(self.http("http://api"))

    def http(self, address: str = "") -> httpx.Client:
        """A client that reaches the API server, and the gateway's pod."""
        return httpx.Client(base_url=address, transport=httpx.MockTransport(self._answer))

    def put(self, place: str, body: Json) -> Json:
        """Write an object as the server would keep it."""
        metadata = body["metadata"]
        name = f"{place}/{metadata['name']}"
        known = self.objects.get(name, {"metadata": {"generation": 0}})
        self._version += 1
        changed = known.get("spec") != body.get("spec")
        written = {
            "namespace": place.split("/")[-2],
            "generation": known["metadata"]["generation"] + changed,
            "resourceVersion": str(self._version),
            "uid": known["metadata"].get("uid", f"uid-{self._version}"),
        }
        self.objects[name] = json.loads(json.dumps(body | {"metadata": metadata | written}))
        if place.endswith("inferenceservices"):
            self._reconcile(self.objects[name])
        return self.objects[name]

    def _reconcile(self, service: Json) -> None:
        """What KServe does when an InferenceService was written."""
        self._run(service["metadata"]["name"], digest(service))

    def _run(self, service: str, release: str, pod: str = "") -> None:
        """Start a pod of an InferenceService."""
        self.put(f"/api/v1/namespaces/{NAMESPACE}/pods", candidate_pod(service, release, self.ready, pod or service))

    def get(self, what: str) -> Json:
        """The object whose address ends so."""
        return next(body for name, body in self.objects.items() if name.endswith(what))

    def has(self, what: str) -> bool:
        """Whether there is an object whose address ends so."""
        return any(name.endswith(what) for name in self.objects)

    def send(self, number: int, route: str = "httproutes/pills") -> Counter[str]:
        """Requests of clients; answers by release."""
        found = self.get(route)
        place = f"{found['kind'].lower()}/{NAMESPACE}/{found['metadata']['name']}"
        at, rule = next(
            (n, rule)
            for n, rule in enumerate(found["spec"]["rules"])
            if not is_parked(rule) and not any("headers" in match for match in rule["matches"])
        )
        weights = np.array([ref["weight"] for ref in rule["backendRefs"]])
        numbers = self._random.multinomial(number, weights / weights.sum())
        for index, (ref, share) in enumerate(zip(rule["backendRefs"], numbers, strict=True)):
            self._serve(f"{place}/rule/{at}/backend/{index}", ref["name"], int(share))
        for index, item in enumerate(f for f in rule.get("filters", []) if f["type"] == "RequestMirror"):
            copies = int(self._random.binomial(number, item["requestMirror"]["percent"] / 100))
            self._serve(f"{place}/rule/{at}-mirror-{index}", item["requestMirror"]["backendRef"]["name"], copies)
            self.copied += copies
        return Counter({header(ref, RELEASE): int(n) for ref, n in zip(rule["backendRefs"], numbers, strict=True) if n})

    def _serve(self, cluster: str, service: str, number: int) -> None:
        name = service.removesuffix("-predictor").removesuffix("-grpc")
        release = digest(self.get(f"inferenceservices/{name}"))
        bad = int(self._random.binomial(number, self.failing.get(release, 0.0)))
        self.counts[cluster] += Counter({True: bad, False: number - bad})

    def _answer(self, request: httpx.Request) -> httpx.Response:
        place = request.url.path
        if place == "/stats/prometheus":
            return httpx.Response(200, text=self._exposed())
        for method, part in self.denied:
            if request.method == method and part in place:
                return httpx.Response(403, json={"message": f"titrate-operator cannot {method.lower()} {part}"})
        body = json.loads(request.content) if request.content else {}
        if request.method == "POST":
            name = f"{place}/{body['metadata']['name']}"
            return (
                httpx.Response(409, json={})
                if name in self.objects
                else httpx.Response(201, json=self.put(place, body))
            )
        if request.method == "GET" and "labelSelector" in request.url.params:
            return httpx.Response(200, json={"items": self._labelled(place, request.url.params["labelSelector"])})
        known = self.objects.get(place.removesuffix("/status"))
        if known is None:
            return httpx.Response(404, json={"message": f"{place} not found"})
        return self._change(request.method, place, known, body)

    def _change(self, method: str, place: str, known: Json, body: Json) -> httpx.Response:
        if method == "DELETE":
            del self.objects[place]
            return httpx.Response(200, json={})
        if method == "PUT" and body["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"]:
            return httpx.Response(409, json={"message": "the object has been modified"})
        if method == "PUT":
            known = self.put(place.rpartition("/")[0], body)
        if method == "PATCH":
            merge(known, body)
        if "routes" in place and not self.deaf:
            true = [{"type": t, "status": "True", "observedGeneration": known["metadata"]["generation"]} for t in TOLD]
            known["status"] = {"parents": [{"conditions": true}]}
        return httpx.Response(200, json=known)

    def _labelled(self, place: str, selector: str) -> list[Json]:
        wanted = dict(pair.split("=") for pair in selector.split(","))
        return [
            body
            for name, body in self.objects.items()
            if name.rpartition("/")[0] == place and wanted.items() <= body["metadata"].get("labels", {}).items()
        ]

    def _exposed(self) -> str:
        lines = []
        for cluster, counted in self.counts.items():
            label, total = f'envoy_cluster_name="{cluster}"', counted.total()
            lines += [
                f"envoy_cluster_upstream_rq_completed{{{label}}} {total}",
                f'envoy_cluster_upstream_rq_xx{{envoy_response_code_class="5",{label}}} {counted[True]}',
                f"envoy_cluster_upstream_rq_time_count{{{label}}} {total}",
                *(f'envoy_cluster_upstream_rq_time_bucket{{{label},le="{bound:g}"}} {total}' for bound in BOUNDS_MS),
            ]
        return "\n".join(lines) + "\n"


TOLD = ("Accepted", "ResolvedRefs")


def merge(known: Json, change: Json) -> None:
    """JSON merge patch (RFC 7386)."""
    for key, value in change.items():
        if value is None:
            known.pop(key, None)
        elif isinstance(value, dict) and isinstance(known.get(key), dict):
            merge(known[key], value)
        else:
            known[key] = value


def gateway_pod() -> Json:
    """Envoy of the Gateway `titrate`."""
    labels = {f"{OWNER}name": "titrate", f"{OWNER}namespace": NAMESPACE}
    return {"metadata": {"name": "envoy-0", "labels": labels}, "status": {"podIP": "10.0.0.1"}}


def candidate_pod(service: str, release: str, ready: bool, name: str) -> Json:
    """The pod that KServe would make for an InferenceService."""
    containers = [{"name": "kserve-container", "env": [{"name": DIGEST_ENV, "value": release}]}]
    condition = {"type": "Ready", "status": str(ready)}
    status = {"conditions": [condition], "containerStatuses": [{"restartCount": 0, "state": {}}]}
    metadata = {"name": f"{name}-pod", "labels": {OF_SERVICE: service}}
    return {"metadata": metadata, "spec": {"containers": containers}, "status": status}


def inference_service(name: str, release: str) -> Json:
    """What serves a release, as the overlays make it."""
    model = {"runtime": "titrate-triton", "storageUri": f"pvc://objects/releases/{release}"}
    env = [{"name": "TITRATE_RELEASE", "value": release}]
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "labels": {"titrate.dev/workload": "pills", "titrate.dev/arm": "stable"}},
        "spec": {"predictor": {"minReplicas": 1, "model": {**model, "env": env}}},
    }


def routes() -> list[Json]:
    """The HTTPRoute and the GRPCRoute of the workload, as the overlays make them."""
    names = [{"name": "x-titrate-arm", "value": "stable"}, {"name": RELEASE, "value": STABLE}]
    filters = [{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": names}}]
    kinds = (
        ("HTTPRoute", {"path": {"type": "PathPrefix", "value": "/v2"}}, "pills-stable-predictor", 80),
        ("GRPCRoute", {"method": {"service": "inference.GRPCInferenceService"}}, "pills-stable-grpc", 9000),
    )
    return [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": "pills"},
            "spec": {
                "parentRefs": [{"name": "titrate"}],
                "rules": [
                    {
                        "matches": [match],
                        "backendRefs": [{"name": service, "port": port, "weight": 100, "filters": filters}],
                    }
                ],
            },
        }
        for kind, match, service, port in kinds
    ]
