"""The candidate as KServe's own canary: an entry of `spec.canary` beside stable's predictor.

KServe makes a Deployment and a Service for each entry, named by its predictor; `routers/kserve_canary.py` moves it.
"""

from typing import Any

from core.errors import PermanentError
from serving.rollout.cluster.inference_services import digest, digest_of, storage_of
from serving.rollout.cluster.one_service import OneService
from serving.rollout.observations import CandidateReport

Json = dict[str, Any]
SCALING = frozenset({"maxReplicas", "scaleTarget", "scaleMetric", "scaleMetricType", "autoScaling", "scalerClass"})
"""Fields that KServe refuses in a canary."""


class Canaries:
    """Servers of one workload: the canary of one InferenceService."""

    def __init__(self, service: OneService) -> None:
        self._service = service

    def release_of(self, name: str) -> str:
        """The release that is stable now; the name of an adopted InferenceService."""
        return digest(self._service.read()) or name

    def address(self, release: str) -> str:
        """Where the canary answers by itself."""
        return f"http://{service_of(self._service.name, name_of(release))}.{self._service.namespace}.svc"

    def check(self, release: str) -> None:
        """Raise UserError where the release's place cannot be told."""
        storage_of(self._service.read(), release, self._service.storage)

    def start(self, release: str) -> None:
        """Add the canary, without traffic. Raises PermanentError for one that Titrate did not make."""
        service = self._service.read()
        others = [entry for entry in service["spec"].get("canary", []) if release_in(entry) != release]
        if others:
            raise PermanentError(
                f"InferenceService {self._service.name!r} has a canary already, "
                f"{others[0]['predictor'].get('name')!r}; end it first"
            )
        if not service["spec"].get("canary"):
            self._service.write(service, {**service["spec"], "canary": [self._entry(service, release)]})

    def report(self, release: str) -> CandidateReport:
        return self._service.report(release)

    def stop(self, release: str) -> None:
        service = self._service.read()
        if any(release_in(entry) == release for entry in service["spec"].get("canary", [])):
            self._service.write(service, {name: part for name, part in service["spec"].items() if name != "canary"})

    def retire(self, release: str) -> None:
        """KServe removes the former stable when the candidate takes its place."""

    def _entry(self, service: Json, release: str) -> Json:
        made = self._service.predictor(service, release)
        kept = {name: value for name, value in made.items() if name not in SCALING}
        return {"trafficPercent": 0, "predictor": {**kept, "name": name_of(release)}}


def name_of(release: str) -> str:
    """The canary's name."""
    return f"r{release[:10]}"


def service_of(name: str, predictor: str) -> str:
    """The Service of a predictor; stable's has no name of its own before the first promotion."""
    return f"{name}-{predictor}-predictor" if predictor else f"{name}-predictor"


def release_in(entry: Json) -> str:
    """The release of a canary."""
    return digest_of(entry["predictor"].get("model", {}))
