"""One InferenceService that holds both arms: how its predictors are read and written. The Knative and `spec.canary`
adapters differ in where the candidate stands; what a candidate's predictor is, and when it is ready, is the same.
"""

from typing import Any

from core.errors import TemporaryError, UserError
from serving.rollout.cluster.inference_services import OF_SERVICE, candidate, digest_in, reported
from serving.rollout.cluster.kube import INFERENCE_SERVICES, PODS, Kube
from serving.rollout.observations import CandidateReport
from serving.rollout.spec import RolloutSpec

Json = dict[str, Any]
MODE = "serving.kserve.io/deploymentMode"


class OneService:
    """The InferenceService `name`."""

    def __init__(self, kube: Kube, namespace: str, name: str, workload: str, storage: str | None = None) -> None:
        self.kube, self.namespace, self.name = kube, namespace, name
        self.storage, self._workload = storage, workload

    def read(self) -> Json:
        """As it is now. Raises TemporaryError where there is none."""
        found = self.kube.get(INFERENCE_SERVICES, self.namespace, self.name)
        if found is None:
            raise TemporaryError(f"there is no InferenceService {self.name!r} in namespace {self.namespace!r}")
        return found

    def write(self, service: Json, spec: Json, annotations: Json | None = None) -> None:
        """Give it this spec, and more annotations. Raises TemporaryError when somebody else wrote meanwhile."""
        metadata = service["metadata"]
        notes = {**metadata.get("annotations", {}), **(annotations or {})}
        changed = {**service, "metadata": {**metadata, "annotations": notes}, "spec": spec}
        self.kube.replace(INFERENCE_SERVICES, self.namespace, changed)

    def predictor(self, service: Json, release: str) -> Json:
        """A predictor for `release`, otherwise like the service's own; one replica at least, also without traffic.

        Raises UserError where the release's place cannot be told.
        """
        spec = candidate(service, self.name, self._workload, release, self.storage)["spec"]["predictor"]
        return {**spec, "minReplicas": max(1, spec.get("minReplicas") or 0)}

    def report(self, release: str) -> CandidateReport:
        """Ready when one of the pods of `release` answers its probe."""
        pods = self.kube.select(PODS, self.namespace, {OF_SERVICE: self.name})
        return reported([pod for pod in pods if digest_in(pod["spec"]["containers"]) == release])

    def check(self, spec: RolloutSpec, modes: frozenset[str], advice: str) -> None:
        """Raise UserError for what one InferenceService cannot do, and for one of another deployment mode."""
        if spec.baseline:
            raise UserError("baseline: true; one InferenceService has no third arm; leave it out")
        if spec.routing.sticky_header:
            raise UserError(
                f"routing.stickyHeader {spec.routing.sticky_header!r}: KServe chooses an arm for each request; leave "
                "it out"
            )
        if any(step.shadow for step in spec.steps):
            raise UserError("a shadow step: KServe does not mirror; leave it out, or use target.router gateway_api")
        service = self.read()
        noted = service["metadata"].get("annotations", {}).get(MODE, "")
        mode = service.get("status", {}).get("deploymentMode") or noted
        if mode not in modes:
            raise UserError(f"InferenceService {self.name!r} is deployed in mode {mode or '(unknown)'!r}; {advice}")
