"""The calls of the Kubernetes API that a step needs for its job, with errors that say what to change.

Who asks is the pod's service account, else what KUBECONFIG names. `kubernetes` is imported when a Cluster is opened:
a step that trains in its own pod does not pay for it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from components.jobs.manifest import JOB, MANAGED, TITRATE, Json
from core.errors import PermanentError, TemporaryError, TitrateError, UserError

NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
SECONDS = 20
"""For one call."""


class Kind(NamedTuple):
    """A kind of job."""

    group: str
    version: str
    plural: str
    needs: str
    """What must be installed for it."""


TRAIN_JOBS = Kind("trainer.kubeflow.org", "v1alpha1", "trainjobs", "Kubeflow Trainer 2")
RAY_JOBS = Kind("ray.io", "v1", "rayjobs", "KubeRay")


class Cluster:
    """One namespace of an API server."""

    def __init__(self, api: Any, namespace: str) -> None:
        from kubernetes import client

        self.namespace = namespace
        self._jobs, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)

    @classmethod
    def open(cls, namespace: str = "") -> "Cluster":
        """The cluster that this pod runs on, in its namespace; else KUBECONFIG's. Raises UserError without either."""
        from kubernetes import client, config

        chosen = client.Configuration()
        if NAMESPACE.exists():
            config.load_incluster_config(client_configuration=chosen)
            return cls(client.ApiClient(chosen), namespace or NAMESPACE.read_text().strip())
        try:
            config.load_kube_config(client_configuration=chosen)
        except config.ConfigException as error:
            raise UserError(f"this is no pod, and KUBECONFIG names no cluster: {error}") from error
        return cls(client.ApiClient(chosen), namespace or "default")

    def get(self, kind: Kind, name: str) -> Json | None:
        """The job, none where there is none."""
        with _told(f"{kind.plural}/{name}", kind.needs):
            with _absent() as found:
                found.append(self._jobs.get_namespaced_custom_object(*self._of(kind), name, _request_timeout=SECONDS))
            return dict(found[0]) if found else None

    def create(self, kind: Kind, manifest: Json) -> None:
        """Make the job. Raises UserError where its kind is not installed, or the service account may not."""
        with _told(f"{kind.plural}/{manifest['metadata']['name']}", kind.needs):
            self._jobs.create_namespaced_custom_object(*self._of(kind), manifest, _request_timeout=SECONDS)

    def own(self, kind: Kind, name: str, owners: list[Json]) -> None:
        """Make others the owners of a job."""
        with _told(f"{kind.plural}/{name}", kind.needs):
            change = {"metadata": {"ownerReferences": owners}}
            self._jobs.patch_namespaced_custom_object(*self._of(kind), name, change, _request_timeout=SECONDS)

    def delete(self, kind: Kind, name: str) -> None:
        """Remove the job, and then its pods; done already where there is none."""
        with _told(f"{kind.plural}/{name}", kind.needs), _absent():
            self._jobs.delete_namespaced_custom_object(
                *self._of(kind), name, propagation_policy="Foreground", _request_timeout=SECONDS
            )

    def jobs(self, kind: Kind) -> list[Json]:
        """All jobs of the kind that steps made; none where the kind is not installed."""
        with _told(kind.plural, kind.needs):
            with _absent() as found:
                answer = self._jobs.list_namespaced_custom_object(
                    *self._of(kind), label_selector=f"{MANAGED}={TITRATE}", _request_timeout=SECONDS
                )
                found.extend(answer["items"])
            return found

    def pods(self, job: str) -> list[Any]:
        """The pods of a job (V1Pod)."""
        with _told(f"the pods of {job}"):
            answer = self._core.list_namespaced_pod(
                self.namespace, label_selector=f"{JOB}={job}", _request_timeout=SECONDS
            )
            return list(answer.items)

    def pod(self, name: str) -> Any:
        """A pod (V1Pod), none where there is none."""
        with _told(f"pods/{name}"):
            with _absent() as found:
                found.append(self._core.read_namespaced_pod(name, self.namespace, _request_timeout=SECONDS))
            return found[0] if found else None

    def log(self, pod: str, seconds: int | None) -> str:
        """What the pod's container wrote in the last `seconds` (none: ever), each line after its time and a space."""
        with _told(f"the log of {pod}"):
            with _absent(400) as found:  # 400: its container waits to start again
                found.append(
                    self._core.read_namespaced_pod_log(
                        pod, self.namespace, since_seconds=seconds, timestamps=True, _request_timeout=SECONDS
                    )
                )
            return str(found[0] or "") if found else ""

    def _of(self, kind: Kind) -> tuple[str, str, str, str]:
        return kind.group, kind.version, self.namespace, kind.plural


@contextlib.contextmanager
def _absent(*fine: int) -> Iterator[list[Any]]:
    """A list for the answer; it stays empty where there is no such object, or where the status is one of `fine`."""
    from kubernetes.client import ApiException

    found: list[Any] = []
    try:
        yield found
    except ApiException as error:
        if error.status not in {404, *fine}:
            raise


@contextlib.contextmanager
def _told(what: str, needs: str = "") -> Iterator[None]:
    """Errors of the client, as ours."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise _error(what, needs, error) from error
    except HTTPError as error:
        raise TemporaryError(f"the Kubernetes API does not answer ({what}): {error!r}") from error


def _error(what: str, needs: str, error: Any) -> TitrateError:
    said = " ".join(str(error.body or error.reason).split())[:500]
    if error.status == 403:
        return UserError(f"the step's service account lacks a permission (kustomize/base/jobs has them): {said}")
    if error.status == 404 and needs:
        return UserError(f"the cluster does not know {what}; is {needs} installed? {said}")
    if error.status in {401, 409, 429} or error.status >= 500:
        return TemporaryError(f"{what}: {error.status} {said}")
    return PermanentError(f"the Kubernetes API refuses {what}: {error.status} {said}")
