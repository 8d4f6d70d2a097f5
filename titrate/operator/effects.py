"""What a rollout on the cluster does besides routing: checks of the candidate, webhooks, events, the registry."""

import contextlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx

from core.errors import TemporaryError, TitrateError
from serving.rollout.cluster.kube import EVENTS, Kube
from serving.rollout.spec import Check, Confirm, RolloutSpec
from titrate.operator.resource import GROUP, VERSION
from titrate.rollouts.checks import run_check

Json = dict[str, Any]
SECONDS = 5.0
SERIOUS = frozenset({"rolled_back", "restoring", "alert"})


class Effects:
    """Of one ModelRollout. `aliases(workload, release)` moves the registry's alias `stable`, where there is one."""

    def __init__(
        self,
        kube: Kube,
        http: httpx.Client,
        resource: Json,
        address: Callable[[], str],
        aliases: Callable[[str, str], None] | None,
        record: Callable[[str, RolloutSpec], None],
    ) -> None:
        """`address()`: the candidate's own Service. `record(kind, spec)` writes to the audit log."""
        self._kube, self._http, self._resource, self._address = kube, http, resource, address
        self._aliases, self._record = aliases, record

    def check(self, check: Check, spec: RolloutSpec) -> str:
        """Ask the candidate's server alone; raises PermanentError."""
        return run_check(self._address(), check, spec)

    def confirm(self, hook: Confirm, spec: RolloutSpec) -> bool:
        try:
            return self._http.post(hook.url, json=_about(spec, hook.before), timeout=SECONDS).is_success
        except httpx.HTTPError as error:
            raise TemporaryError(f"webhook {hook.name!r} at {hook.url} does not answer: {error!r}") from error

    def promoted(self, spec: RolloutSpec) -> None:
        if self._aliases:
            self._aliases(spec.workload, spec.candidate)
        self._record("promoted", spec)

    def undo_promotion(self, spec: RolloutSpec) -> None:
        if self._aliases:
            self._aliases(spec.workload, spec.stable)
        self._record("promotion_undone", spec)

    def notify(self, event: str, text: str, spec: RolloutSpec) -> None:
        """A Kubernetes event of the resource, and the spec's webhooks; nobody is waited for."""
        with contextlib.suppress(TitrateError):
            self._kube.create(EVENTS, self._resource["metadata"]["namespace"], happened(self._resource, event, text))
        for hook in spec.informs:
            with contextlib.suppress(httpx.HTTPError):
                self._http.post(hook.url, json={**_about(spec, event), "text": text}, timeout=SECONDS)


def happened(resource: Json, event: str, text: str) -> Json:
    """The Kubernetes event that something happened to a ModelRollout."""
    metadata, now = resource["metadata"], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "ModelRollout",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": "Warning" if event in SERIOUS else "Normal",
        "reason": "".join(part.capitalize() for part in event.split("_")),
        "message": text[:1000],
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": "titrate-operator"},
    }


def _about(spec: RolloutSpec, event: str) -> Json:
    return {
        "event": event,
        "workload": spec.workload,
        "stable": spec.stable,
        "candidate": spec.candidate,
        "spec_digest": spec.digest,
    }
