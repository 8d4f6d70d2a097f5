"""The few calls of the Kubernetes API that a rollout needs, with the errors that the engine understands.

The official client costs 60 MiB and a second to import; these are five HTTP verbs. Whoever makes the client hands in
credentials (kopf reads those of a pod or of a kubeconfig).
"""

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx

from core.errors import PermanentError, TemporaryError, UserError

Json = dict[str, Any]
MANAGER = "titrate-operator"
"""Field manager of everything the operator writes."""
SECONDS = 5.0
"""A call that takes longer is tried again at the next look: a rollback must not wait behind it."""


class Kind(NamedTuple):
    """A kind of object, as its address names it."""

    api: str
    plural: str


HTTP_ROUTES = Kind("gateway.networking.k8s.io/v1", "httproutes")
GRPC_ROUTES = Kind("gateway.networking.k8s.io/v1", "grpcroutes")
INFERENCE_SERVICES = Kind("serving.kserve.io/v1beta1", "inferenceservices")
SERVICES = Kind("v1", "services")
PODS = Kind("v1", "pods")
EVENTS = Kind("v1", "events")
REVISIONS = Kind("serving.knative.dev/v1", "revisions")
DEPLOYMENTS = Kind("apps/v1", "deployments")
LEASES = Kind("coordination.k8s.io/v1", "leases")


class ForbiddenError(UserError):
    """The service account lacks a permission; the message is the API server's, which names it."""


class Kube:
    """One API server."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self.forbidden: dict[str, str] = {}
        """Calls that were last refused for want of a permission: path -> what the API server said."""
        self._lock = threading.Lock()

    def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """The object, None where there is none."""
        return self._call("GET", path(kind, namespace, name))

    def select(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Json]:
        """The objects with these labels."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self._call("GET", path(kind, namespace), params={"labelSelector": selector})
        return list(found["items"]) if found else []

    def create(self, kind: Kind, namespace: str, body: Json) -> None:
        """Make an object; done already where it exists."""
        self._call("POST", path(kind, namespace), body, {"fieldManager": MANAGER}, fine=(409,))

    def replace(self, kind: Kind, namespace: str, body: Json) -> None:
        """Write the object as it was read and changed. Raises TemporaryError when somebody else wrote meanwhile."""
        self._call("PUT", path(kind, namespace, body["metadata"]["name"]), body, {"fieldManager": MANAGER})

    def merge(self, kind: Kind, namespace: str, name: str, change: Json, subresource: str = "") -> None:
        """Change some fields (JSON merge patch); done already where there is no such object."""
        target = path(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        self._call("PATCH", target, change, {"fieldManager": MANAGER}, fine=(404,))

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Remove the object and what it owns; done already where there is none."""
        self._call("DELETE", path(kind, namespace, name), params={"propagationPolicy": "Background"})

    def _call(
        self,
        method: str,
        target: str,
        body: Json | None = None,
        params: Mapping[str, str] | None = None,
        fine: tuple[int, ...] = (),
    ) -> Json | None:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            answer = self._http.request(
                method, target, json=body, params=params, headers={"content-type": kind}, timeout=SECONDS
            )
        except httpx.TransportError as error:
            raise TemporaryError(f"the Kubernetes API does not answer: {method} {target}: {error!r}") from error
        with self._lock:
            if answer.status_code == 403:
                self.forbidden[f"{method} {target}"] = _said(answer)
            else:
                self.forbidden.pop(f"{method} {target}", None)
        if answer.is_success:
            return dict(answer.json())
        if answer.status_code in fine or (answer.status_code == 404 and method in {"GET", "DELETE"}):
            return None
        raise _error(method, target, answer)


def path(kind: Kind, namespace: str, name: str = "") -> str:
    """Address of an object, or of all of its kind in a namespace."""
    root = "/api" if "/" not in kind.api else "/apis"
    return f"{root}/{kind.api}/namespaces/{namespace}/{kind.plural}" + (f"/{name}" if name else "")


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError):
        return answer.text[:500]


def _error(method: str, target: str, answer: httpx.Response) -> Exception:
    text = f"{method} {target}: {answer.status_code} {_said(answer)}"
    if answer.status_code == 403:
        return ForbiddenError(f"a permission is missing: {_said(answer)}")
    if answer.status_code in {401, 404, 409, 410, 429} or answer.status_code >= 500:
        return TemporaryError(text)
    return PermanentError(text)
