"""Knative's router: `canaryTrafficPercent` of one InferenceService gives the newest revision its share.

KServe gives the rest to the last revision that had everything, before the newest if that is taken back.
The candidate is the newest revision while the field is set (`cluster/revisions.py`); without it, all is stable's.
"""

from collections import Counter
from typing import Any

from pydantic import JsonValue

from core.errors import UserError
from serving.rollout.cluster.inference_services import digest, digest_in
from serving.rollout.cluster.kube import INFERENCE_SERVICES, REVISIONS
from serving.rollout.cluster.one_service import OneService
from serving.rollout.cluster.revisions import PERCENT, predictor_status, stable_predictor
from serving.rollout.observations import RouterReport, Weights
from serving.rollout.spec import FULL, RolloutSpec

Json = dict[str, Any]
MODES = frozenset({"Knative", "Serverless"})
UNKNOWN = RouterReport(weights=None, shadow=0)


class KnativeRouter:
    """Shares of the revisions of one InferenceService."""

    def __init__(self, service: OneService, release: str) -> None:
        """`release`: the candidate's digest."""
        self._service, self._release = service, release
        self._known: dict[str, str] = {}

    def check(self, spec: RolloutSpec) -> None:
        self._service.check(spec, MODES, f"{PERCENT} is ignored there; use target.router gateway_api")
        self.stable()

    def stable(self) -> str:
        """Name of the InferenceService. Raises PermanentError for a canary that Titrate did not start."""
        stable_predictor(self._service.read())
        return self._service.name

    def store_stable(self) -> dict[str, JsonValue]:
        return {"predictor": stable_predictor(self._service.read())}

    def apply(self, weights: Weights) -> None:
        """Raises UserError when there is no candidate to give some to."""
        if PERCENT in self._service.read()["spec"]["predictor"]:
            self._give(weights.candidate)
        elif weights.candidate:
            raise UserError(f"InferenceService {self._service.name!r} has no candidate; it was not started")

    def shadow(self, percent: int) -> None:
        if percent:
            raise UserError(f"a shadow of {percent} %: KServe does not mirror")

    def observed_weight(self) -> RouterReport:
        """What KServe says of Knative's route; unknown while the spec is not what it acted on."""
        service = self._service.read()
        status, predictor = service.get("status", {}), service["spec"]["predictor"]
        if status.get("observedGeneration", 0) < service["metadata"]["generation"]:
            return UNKNOWN
        found: Counter[str] = Counter()
        for target in predictor_status(service).get("traffic", []):
            found[self._of(target["revisionName"])] += target.get("percent", 0)
        if found.total() != FULL:
            return UNKNOWN
        if PERCENT not in predictor:
            whole = found[digest(service)] == FULL
            return RouterReport(weights=Weights(stable=FULL, candidate=0), shadow=0) if whole else UNKNOWN
        candidate = found[self._release]
        return RouterReport(weights=Weights(stable=FULL - candidate, candidate=candidate), shadow=0)

    def promote(self, release: str) -> None:
        self._give(None)

    def restore(self, stored: dict[str, JsonValue]) -> None:
        """Everything to the revision before the candidate, at once; `Revisions.stop` writes its predictor back."""
        if digest(self._service.read()) == self._release:
            self._give(0)

    def _give(self, percent: int | None) -> None:
        change = {"spec": {"predictor": {PERCENT: percent}}}
        self._service.kube.merge(INFERENCE_SERVICES, self._service.namespace, self._service.name, change)

    def _of(self, revision: str) -> str:
        """The release of a revision, which never changes."""
        if revision not in self._known:
            found = self._service.kube.get(REVISIONS, self._service.namespace, revision)
            self._known[revision] = digest_in(found["spec"]["containers"]) if found else ""
        return self._known[revision]
