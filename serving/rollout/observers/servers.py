"""Counts of both arms as their own servers saw them, where no proxy can tell the arms apart.

What never reached a server is not in them: a refused connection is seen by readiness and restarts alone.
"""

import time
from collections import defaultdict
from typing import Any

import httpx

from core.errors import TemporaryError
from serving.rollout.cluster.inference_services import OF_SERVICE, digest_in
from serving.rollout.cluster.kube import PODS
from serving.rollout.cluster.one_service import OneService
from serving.rollout.metrics import ERRORS, SLOW
from serving.rollout.observations import Arm, Reading
from serving.rollout.observers import own
from serving.rollout.observers.samples import SECONDS, Prometheus, series
from serving.rollout.spec import RolloutSpec

Json = dict[str, Any]
PORT = 8002
"""Of Triton's metrics, in every pod of our runtime."""
ANSWERED, FAILED = "nv_inference_request_success", "nv_inference_request_failure"
CANCELED = "CANCELED"
"""The reason of a failure that is the client's."""
EXECUTION = "titrate_execution_seconds"
"""From inside the model (serving/triton/counts.py)."""
BOUNDS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000)
NAMES = (ANSWERED, FAILED, f"{EXECUTION}_bucket", f"{EXECUTION}_count")


class ServerCounts:
    """`errors` (requests) and `slow` (executions, without their time in the queue) of one InferenceService's pods."""

    def __init__(self, service: OneService, http: httpx.Client, prometheus: Prometheus | None) -> None:
        self._service, self._http, self._prometheus = service, http, prometheus

    def check(self, spec: RolloutSpec) -> None:
        """Raise UserError for what the servers do not count."""
        own.check(spec, BOUNDS_MS, "Triton", self._prometheus)

    def readings(self, spec: RolloutSpec) -> tuple[Reading, ...]:
        """Each pod is a source. Raises TemporaryError when none answers; one that does not is made up for later."""
        found, failed = [], f"no pods of InferenceService {self._service.name!r}"
        stamp = time.time()
        for pod in self._service.kube.select(PODS, self._service.namespace, {OF_SERVICE: self._service.name}):
            address, name = pod["status"].get("podIP"), pod["metadata"]["name"]
            arm: Arm = "candidate" if digest_in(pod["spec"]["containers"]) == spec.candidate else "stable"
            try:
                counts = self._counts(address, spec) if address else {}
            except httpx.HTTPError as error:
                failed = f"pod {name!r} at {address}:{PORT}: {error!r}"
                continue
            counts = {metric: pair for metric, pair in counts.items() if metric in spec.sizes}
            found.append(Reading(source=f"triton/{name}", arm=arm, stamp=stamp, counts=counts))
        if not found:
            raise TemporaryError(failed)
        return (*found, *own.queried(self._prometheus, spec, stamp))

    def _counts(self, address: str, spec: RolloutSpec) -> dict[str, tuple[int, ...]]:
        answer = self._http.get(f"http://{address}:{PORT}/metrics", timeout=SECONDS)
        answer.raise_for_status()
        values: dict[str, int] = defaultdict(int)
        for name, labels, value in series(answer.text, NAMES):
            fast = name == f"{EXECUTION}_bucket" and float(labels["le"]) * 1000 == spec.slow_ms
            other = name in {ANSWERED, FAILED, f"{EXECUTION}_count"} and labels.get("reason") != CANCELED
            if labels.get("model") == spec.workload and (fast or other):
                values[name] += int(value)
        fast_ones, all_ones = values[f"{EXECUTION}_bucket"], values[f"{EXECUTION}_count"]
        return {ERRORS: (values[FAILED], values[ANSWERED]), SLOW: (all_ones - fast_ones, fast_ones)}
