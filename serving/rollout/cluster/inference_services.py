"""The candidate's server on KServe: a copy of stable's InferenceService with another release.

Nothing of an InferenceService is changed, so stable serves on whatever happens here; the image of the copy verifies
digest and signature before its server starts, and what it says when it refuses is the reason that a rollout shows.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any

from core.errors import PermanentError, TemporaryError, UserError
from serving.rollout.cluster.kube import INFERENCE_SERVICES, PODS, SERVICES, Kube
from serving.rollout.observations import CandidateReport

Json = dict[str, Any]
WORKLOAD, RELEASE = "titrate.dev/workload", "titrate.dev/release"
OF_SERVICE = "serving.kserve.io/inferenceservice"
"""Label that KServe gives to the pods of an InferenceService."""
DIGEST_ENV = "TITRATE_RELEASE"
LABEL_LENGTH = 63
RUNTIME: Json = {
    "modelFormat": {"name": "titrate", "version": "1"},
    "runtime": "titrate-triton",
    "protocolVersion": "v2",
}
KEPT = frozenset({"resources", "name"})
"""Of an adopted InferenceService's model."""


class InferenceServices:
    """The servers of one workload in one namespace."""

    def __init__(
        self, kube: Kube, namespace: str, workload: str, stable: Callable[[], str], storage: str | None = None
    ) -> None:
        """`stable()`: name of the InferenceService that serves now. `storage`: where releases lie, `{release}` stands
        for the digest; None: where stable's lies."""
        self._kube, self._namespace, self._workload = kube, namespace, workload
        self._stable, self._storage = stable, storage

    def name(self, release: str) -> str:
        """Name of the InferenceService that serves a candidate."""
        return f"{self._workload.replace('_', '-')}-{release[:10]}"

    def address(self, release: str) -> str:
        """Where a candidate answers by itself."""
        return f"http://{self.name(release)}-predictor.{self._namespace}.svc"

    def release_of(self, name: str) -> str:
        """Digest of the release that an InferenceService serves; its own name when Titrate did not make it."""
        return digest(self._existing(name)) or name

    def check(self, release: str) -> None:
        """Raise UserError where the place of a release cannot be told."""
        storage_of(self._existing(self._stable()), release, self._storage)

    def start(self, release: str) -> None:
        """Make the copy, and the Service that gRPC needs.

        Raises UserError where a release's place cannot be told, TemporaryError while a former copy is being removed.
        """
        name = self.name(release)
        known = self._kube.get(INFERENCE_SERVICES, self._namespace, name)
        if known is None:
            known = candidate(self._existing(self._stable()), name, self._workload, release, self._storage)
            self._kube.create(INFERENCE_SERVICES, self._namespace, known)
        elif "deletionTimestamp" in known["metadata"]:
            raise TemporaryError(f"InferenceService {name!r} of an earlier rollout is still being removed")
        elif digest(known) != release:
            raise PermanentError(
                f"InferenceService {name!r} exists and serves {digest(known)!r}; delete it, it is in the way"
            )
        self._kube.create(SERVICES, self._namespace, grpc_service(name, self._workload))

    def report(self, release: str) -> CandidateReport:
        """Ready when one of its pods answers its probe; an InferenceService's own condition comes seconds later."""
        return reported(self._kube.select(PODS, self._namespace, {OF_SERVICE: self.name(release)}))

    def stop(self, release: str) -> None:
        self._remove(self.name(release))

    def retire(self, release: str) -> None:
        """Remove what serves `release`. Raises UserError for an InferenceService that Titrate did not make."""
        for service in self._kube.select(INFERENCE_SERVICES, self._namespace, {WORKLOAD: self._workload}):
            if digest(service) == release and service["metadata"]["name"] != self._stable():
                self._remove(service["metadata"]["name"])
                return
        adopted = self._kube.get(INFERENCE_SERVICES, self._namespace, release)
        if adopted is not None:
            raise UserError(f"InferenceService {release!r} was not made by Titrate; delete it yourself")

    def _remove(self, name: str) -> None:
        self._kube.delete(INFERENCE_SERVICES, self._namespace, name)
        self._kube.delete(SERVICES, self._namespace, f"{name}-grpc")

    def _existing(self, name: str) -> Json:
        found = self._kube.get(INFERENCE_SERVICES, self._namespace, name)
        if found is None:
            raise TemporaryError(f"there is no InferenceService {name!r} in namespace {self._namespace!r}")
        return found


def candidate(stable: Json, name: str, workload: str, release: str, storage: str | None) -> Json:
    """The copy of `stable` that serves `release`."""
    spec = copy.deepcopy(stable["spec"])
    model = spec["predictor"].get("model", {})
    if not digest(stable):  # adopted: how it is scaled and placed is kept, what serves it is not
        model = {name: value for name, value in model.items() if name in KEPT} | RUNTIME
    model["storageUri"] = storage_of(stable, release, storage)
    others = [item for item in model.get("env", []) if item["name"] != DIGEST_ENV]
    spec["predictor"]["model"] = {**model, "env": [*others, {"name": DIGEST_ENV, "value": release}]}
    labels = {**stable["metadata"].get("labels", {}), WORKLOAD: workload, RELEASE: release[:LABEL_LENGTH]}
    labels.pop("titrate.dev/arm", None)  # the routes say who is stable
    notes = {
        key: value
        for key, value in stable["metadata"].get("annotations", {}).items()
        if key.startswith("serving.kserve.io/")
    }
    return {
        "apiVersion": stable["apiVersion"],
        "kind": stable["kind"],
        "metadata": {"name": name, "labels": labels, "annotations": notes},
        "spec": spec,
    }


def storage_of(stable: Json, release: str, template: str | None) -> str:
    """Where `release` lies: the template's place, else beside stable's."""
    uri = stable["spec"]["predictor"].get("model", {}).get("storageUri", "")
    if template:
        return template.replace("{release}", release)
    if (serving := digest(stable)) and serving in uri:
        return str(uri).replace(serving, release)
    name = stable["metadata"]["name"]
    raise UserError(
        f"InferenceService {name!r}: its storageUri {uri!r} does not name its release, so the candidate's place is "
        "unknown; say spec.target.storageUri, for example pvc://titrate-objects/releases/{release}"
    )


def digest(service: Json) -> str:
    """The release that an InferenceService says it serves; empty where it does not say."""
    return digest_of(service["spec"]["predictor"].get("model", {}))


def digest_of(container: Json) -> str:
    """The release that a container is told to serve; empty where it is not told."""
    env = container.get("env", [])
    return next((str(item.get("value", "")) for item in env if item["name"] == DIGEST_ENV), "")


def digest_in(containers: Iterable[Json]) -> str:
    """The release that one of a pod's or a revision's containers is told to serve."""
    return next(filter(None, map(digest_of, containers)), "")


def grpc_service(name: str, workload: str) -> Json:
    """KServe's own Service has one port, for REST."""
    port = {"name": "grpc", "port": 9000, "targetPort": 9000, "appProtocol": "kubernetes.io/h2c"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{name}-grpc", "labels": {WORKLOAD: workload}},
        "spec": {"selector": {"app": f"isvc.{name}-predictor"}, "ports": [port]},
    }


def reported(pods: list[Json]) -> CandidateReport:
    """How a server is whose pods these are."""
    statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", [])]
    return CandidateReport(
        ready=any(_ready(pod) for pod in pods),
        restarts=sum(status["restartCount"] for status in statuses),
        reason=_reason(pods, statuses),
    )


def _ready(pod: Json) -> bool:
    going = "deletionTimestamp" in pod["metadata"]
    return not going and any(
        c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", [])
    )


def _reason(pods: Iterable[Json], statuses: Iterable[Json]) -> str:
    """What is wrong, in the words of whoever knows best: the container's last message, its state, the scheduler."""
    for status in statuses:
        for state in (status.get("state", {}), status.get("lastState", {})):
            if message := state.get("terminated", {}).get("message"):
                return str(message).strip()
    for status in statuses:
        waiting = status.get("state", {}).get("waiting", {})
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message', '')}".strip(": ")
    for pod in pods:
        for condition in pod["status"].get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return str(condition.get("message", ""))
    return ""
