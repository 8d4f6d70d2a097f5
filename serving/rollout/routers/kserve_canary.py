"""KServe's own router: `spec.canary` of one InferenceService, whose HTTPRoutes KServe writes.

KServe 0.20 knows the field, makes the Deployment and sends it nothing (measured: 0 of 400 requests at 30 %), so it is
refused there. What is in force is read from the routes that KServe made, never from what was asked of it.
"""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import JsonValue

from core.errors import TemporaryError, UserError
from serving.rollout.cluster.canaries import release_in, service_of
from serving.rollout.cluster.inference_services import digest
from serving.rollout.cluster.kube import DEPLOYMENTS, HTTP_ROUTES, Kube
from serving.rollout.cluster.one_service import OneService
from serving.rollout.observations import RouterReport, Weights
from serving.rollout.routers.twins import accepted
from serving.rollout.spec import FULL, RolloutSpec

Json = dict[str, Any]
MODES = frozenset({"Standard", "RawDeployment"})
CONTROLLER = "kserve-controller-manager"
SPLITS = (0, 21)
"""The first version of KServe whose routes have the canary's share."""
UNKNOWN = RouterReport(weights=None, shadow=0)


class CanaryRouter:
    """Shares of stable and canary of one InferenceService."""

    def __init__(self, service: OneService, release: str, kserve_namespace: str) -> None:
        """`release`: the candidate's digest. `kserve_namespace`: where KServe's controller runs."""
        self._service, self._release, self._kserve = service, release, kserve_namespace

    def check(self, spec: RolloutSpec) -> None:
        found = version(self._service.kube, self._kserve)
        if found < SPLITS:
            raise UserError(
                f"KServe {found[0]}.{found[1]} makes a Deployment for spec.canary and sends it no request (from "
                f"{SPLITS[0]}.{SPLITS[1]} on it does); use target.router gateway_api"
            )
        self._service.check(spec, MODES, "spec.canary is for Standard mode; use target.router knative")

    def stable(self) -> str:
        """Name of the InferenceService."""
        return self._service.name

    def store_stable(self) -> dict[str, JsonValue]:
        return {"predictor": self._service.read()["spec"]["predictor"]}

    def apply(self, weights: Weights) -> None:
        """Raises UserError when there is no candidate to give some to."""
        service = self._service.read()
        if service["spec"].get("canary"):
            self._give(service, service["spec"]["predictor"], weights.candidate)
        elif weights.candidate:
            raise UserError(f"InferenceService {self._service.name!r} has no candidate; it was not started")

    def shadow(self, percent: int) -> None:
        if percent:
            raise UserError(f"a shadow of {percent} %: KServe does not mirror")

    def observed_weight(self) -> RouterReport:
        """What the gateway took over of KServe's routes; unknown where it did not, and where they differ."""
        service = self._service.read()
        spec = service["spec"]
        stable = service_of(self._service.name, spec["predictor"].get("name", ""))
        canary = {service_of(self._service.name, entry["predictor"]["name"]) for entry in spec.get("canary", [])}
        found = {_share(route, stable, canary) if accepted(route) else None for route in self._routes()}
        share = found.pop() if len(found) == 1 else None
        if share is None:
            return UNKNOWN
        return RouterReport(weights=Weights(stable=FULL - share, candidate=share), shadow=0)

    def promote(self, release: str) -> None:
        """The canary becomes the predictor, under its own name: its Deployment stays, and no pod starts."""
        service = self._service.read()
        entry = next((one for one in service["spec"].get("canary", []) if release_in(one) == release), None)
        if entry is not None:
            self._service.write(service, {**_without_canary(service), "predictor": entry["predictor"]})

    def restore(self, stored: dict[str, JsonValue]) -> None:
        """Everything to stable. After a promotion stable is started again first, beside the candidate that serves, and
        TemporaryError is raised until it is ready."""
        service, predictor = self._service.read(), stored["predictor"]
        spec = service["spec"]
        if digest(service) == self._release:
            entry = {"trafficPercent": FULL, "predictor": spec["predictor"]}
            self._service.write(service, {**spec, "predictor": predictor, "canary": [entry]})
            service = self._service.read()
        if entries := service["spec"].get("canary"):
            whole = entries[0]["trafficPercent"] == FULL
            if whole and not self._service.report(digest(service)).ready:
                raise TemporaryError(f"InferenceService {self._service.name!r}: stable's pods are not ready yet")
            self._give(service, predictor, 0)

    def _give(self, service: Json, predictor: JsonValue, percent: int) -> None:
        entries = [{**entry, "trafficPercent": percent} for entry in service["spec"]["canary"]]
        self._service.write(service, {**service["spec"], "predictor": predictor, "canary": entries})

    def _routes(self) -> Iterator[Json]:
        """KServe's two: one for the name of the InferenceService, one for its predictor's."""
        for name in (self._service.name, f"{self._service.name}-predictor"):
            route = self._service.kube.get(HTTP_ROUTES, self._service.namespace, name)
            if route is None:
                raise TemporaryError(f"KServe has made no httproutes/{name} in namespace {self._service.namespace!r}")
            yield route


def version(kube: Kube, namespace: str) -> tuple[int, int]:
    """KServe's version, from its controller's label or image. Raises UserError where neither says it."""
    found = kube.get(DEPLOYMENTS, namespace, CONTROLLER)
    if found is None:
        raise UserError(f"no Deployment {CONTROLLER!r} in namespace {namespace!r}; KServe's version cannot be told")
    said = [found["metadata"].get("labels", {}).get("app.kubernetes.io/version", "")]
    said += [container["image"].rpartition(":")[2] for container in found["spec"]["template"]["spec"]["containers"]]
    for text in said:
        if parts := re.match(r"v?(\d+)\.(\d+)\b", text):
            return int(parts[1]), int(parts[2])
    raise UserError(
        f"Deployment {CONTROLLER!r}: neither its label nor its images say KServe's version; use gateway_api"
    )


def _share(route: Json, stable: str, canary: set[str]) -> int | None:
    """The canary's share of every rule, percent; None where rules differ or lead elsewhere."""
    shares = set()
    for rule in route["spec"]["rules"]:
        weights = {ref["name"]: ref.get("weight", 1) for ref in rule["backendRefs"]}
        if not weights.keys() <= {stable, *canary} or not (total := sum(weights.values())):
            return None
        shares.add(round(FULL * sum(weights.get(name, 0) for name in canary) / total))
    return shares.pop() if len(shares) == 1 else None


def _without_canary(service: Json) -> Json:
    return {name: part for name, part in service["spec"].items() if name != "canary"}
