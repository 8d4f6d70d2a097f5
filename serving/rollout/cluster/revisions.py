"""The candidate on Knative: the newest revision of the InferenceService that serves. `routers/knative.py` moves it.

While a rollout goes on, `canaryTrafficPercent` is set and an annotation holds stable's predictor: what is in the spec
is the candidate then. The candidate's predictor and its share of 0 are one write, so it never gets what nobody gave it.
"""

import json
from typing import Any

from core.config import canonical_json
from core.errors import PermanentError, TemporaryError
from serving.rollout.cluster.inference_services import digest, digest_of, storage_of
from serving.rollout.cluster.one_service import OneService
from serving.rollout.observations import CandidateReport

Json = dict[str, Any]
PERCENT = "canaryTrafficPercent"
STABLE = "titrate.dev/stable-predictor"
"""Annotation: stable's predictor, JSON."""


class Revisions:
    """Servers of one workload: revisions of one InferenceService."""

    def __init__(self, service: OneService) -> None:
        self._service = service

    def release_of(self, name: str) -> str:
        """The release that is stable now; the name of an adopted InferenceService."""
        return digest_of(stable_predictor(self._service.read()).get("model", {})) or name

    def address(self, release: str) -> str:
        """Where the newest revision answers by itself."""
        revision = predictor_status(self._service.read()).get("latestCreatedRevision", "")
        return f"http://{revision}.{self._service.namespace}.svc"

    def check(self, release: str) -> None:
        """Raise UserError where the release's place cannot be told."""
        storage_of(self._as_stable(self._service.read()), release, self._service.storage)

    def start(self, release: str) -> None:
        """Write the candidate's predictor with a share of 0. Raises TemporaryError while a former one is taken back."""
        service = self._service.read()
        if digest(service) == release and PERCENT in service["spec"]["predictor"]:
            return
        self._settled(service)
        before = self._as_stable(service)
        made = {**self._service.predictor(before, release), PERCENT: 0}
        note = {STABLE: canonical_json(before["spec"]["predictor"])}
        self._service.write(service, {**service["spec"], "predictor": made}, note)

    def report(self, release: str) -> CandidateReport:
        return self._service.report(release)

    def stop(self, release: str) -> None:
        """Write stable's predictor back, as a new revision without traffic.

        Raises TemporaryError while KServe takes back a candidate that had everything.
        """
        service = self._service.read()
        if digest(service) != release or PERCENT not in service["spec"]["predictor"]:
            return
        self._settled(service)
        self._service.write(service, {**service["spec"], "predictor": {**stable_predictor(service), PERCENT: 0}})

    def _settled(self, service: Json) -> None:
        """Raise TemporaryError while KServe still takes the newest revision for the one that has everything.

        A newer revision, written then, would leave it everything: KServe remembers the one before only until it acted
        on the smaller share.
        """
        status, percent = predictor_status(service), service["spec"]["predictor"].get(PERCENT, 100)
        newest = status.get("latestReadyRevision")
        if percent < 100 and newest is not None and newest == status.get("latestRolledoutRevision"):
            raise TemporaryError(f"InferenceService {self._service.name!r}: its candidate is not taken back yet")

    def retire(self, release: str) -> None:
        """Knative lets a revision without traffic go."""

    def _as_stable(self, service: Json) -> Json:
        """The service as it was before the candidate came."""
        return {**service, "spec": {**service["spec"], "predictor": stable_predictor(service)}}


def stable_predictor(service: Json) -> Json:
    """Stable's predictor. Raises PermanentError for a canary that Titrate did not start."""
    predictor: Json = service["spec"]["predictor"]
    if PERCENT not in predictor:
        return predictor
    noted = service["metadata"].get("annotations", {}).get(STABLE)
    if noted is None:
        raise PermanentError(
            f"InferenceService {service['metadata']['name']!r} has a canary already ({PERCENT}: {predictor[PERCENT]}); "
            "end it first"
        )
    return dict(json.loads(noted))


def predictor_status(service: Json) -> Json:
    """What KServe says of the predictor's revisions."""
    found = service.get("status", {}).get("components", {}).get("predictor", {})
    return dict(found)
