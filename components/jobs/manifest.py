"""The parts that the manifests of all jobs share: names, labels, owners, and what is in a pod. Plain values only."""

from collections.abc import Mapping
from typing import Any

from components.jobs.place import Place
from core.config import Config, canonical_json
from core.files import sha256_bytes

Json = dict[str, Any]
RUN, STEP, JOB, MANAGED = "titrate.dev/run", "titrate.dev/step", "titrate.dev/job", "app.kubernetes.io/managed-by"
"""Labels: the run, the step, the job that a pod belongs to, and who made it."""
TITRATE = "titrate"
MOST_LABEL = 63


class Owner(Config):
    """The pod of the step: Kubernetes removes the job with it."""

    name: str
    uid: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Owner | None":
        """The pod that KFP names in the environment of its tasks; none outside of KFP."""
        name, uid = environment.get("KFP_POD_NAME"), environment.get("KFP_POD_UID")
        return cls(name=name, uid=uid) if name and uid else None

    def reference(self) -> Json:
        """For `ownerReferences`."""
        return {"apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": self.uid}


def name_of(step: str, run: str, what: Json) -> str:
    """A job's name: the same for the same run and the same `what`, so that a repeated step finds its own job.

    22 characters at most for a step of nine: JobSet and KubeRay make the names of Services and pods from it, which
    have 63.
    """
    return f"{step}-{sha256_bytes(canonical_json([run, what]).encode())[:12]}"


def labels(step: str, run: str) -> dict[str, str]:
    """What the reaper and people find a run's jobs by. A run whose name is no label is named by its digest."""
    plain = run.replace("-", "").replace("_", "").replace(".", "")
    fits = len(run) <= MOST_LABEL and plain.isascii() and plain.isalnum() and run[0].isalnum() and run[-1].isalnum()
    return {MANAGED: TITRATE, STEP: step, RUN: run if fits else sha256_bytes(run.encode())[:40]}


def metadata(name: str, step: str, run: str, owner: Owner | None) -> Json:
    """`metadata` of a job."""
    found: Json = {"name": name, "labels": labels(step, run)}
    return found | ({"ownerReferences": [owner.reference()]} if owner else {})


def pod_metadata(name: str, step: str, run: str) -> Json:
    """`metadata` of the pods of the job `name`."""
    return {"labels": {**labels(step, run), JOB: name}}


def variables(place: Place, plain: Mapping[str, str]) -> list[Json]:
    """`env` of a container: plain values, then the secrets' by reference. HOME and USER: the image's user has none."""
    values = {"HOME": "/tmp", "USER": TITRATE, **plain}  # nosec B108 # the container's own
    secrets = [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for secret, keys in place.environment.items()
        for key, variable in keys.items()
    ]
    return [{"name": name, "value": value} for name, value in values.items()] + secrets


def resources(place: Place) -> Json:
    """`resources` of a container: what it asks for is what it may use."""
    found = {"cpu": place.resources.cpu, "memory": place.resources.memory} if place.resources else {}
    if place.gpu:
        found[place.gpu.resource] = str(place.gpu.count)
    return {"requests": found, "limits": found} if found else {}


def container_security() -> Json:
    """`securityContext` of a container, as namespaces that admit restricted pods alone want it."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def mounts(place: Place) -> list[Json]:
    """`volumeMounts` of a container: the claim, and shared memory for loaders, nccl and Ray."""
    return [{"name": "work", "mountPath": place.volume}, {"name": "shm", "mountPath": "/dev/shm"}]  # nosec B108


def pod(place: Place) -> Json:
    """A pod's `spec` without its containers."""
    gpu = place.gpu
    tolerations = [*place.tolerations, *(gpu.tolerations if gpu else ())]
    found = {
        "nodeSelector": place.node_selector | (gpu.node_selector if gpu else {}),
        "tolerations": [
            one.model_dump(exclude_defaults=False, exclude=_without_value(one.value)) for one in tolerations
        ],
        "imagePullSecrets": [{"name": name} for name in place.pull_secrets],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": place.user,
            "runAsGroup": place.user,
            "fsGroup": place.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [
            {"name": "work", "persistentVolumeClaim": {"claimName": place.claim}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        ],
    }
    return {key: value for key, value in found.items() if value}


def _without_value(value: str) -> set[str]:
    return set() if value else {"value"}
