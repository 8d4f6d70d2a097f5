"""The sweep as a RayJob of KubeRay: the same driver (`python -m tuning`), its trials on the Ray cluster of the job.

Settings, journal, checkpoints and result lie on the volume that the step and the pods share. KubeRay submits over HTTP,
so the driver runs in the head's pod and its output is read from Ray's own API.
"""

import os
import shlex
from pathlib import Path
from typing import Annotated

import httpx
from pydantic import Field

from components.jobs.cluster import RAY_JOBS, Cluster
from components.jobs.manifest import (
    Json,
    Owner,
    container_security,
    metadata,
    mounts,
    name_of,
    pod,
    pod_metadata,
    resources,
    variables,
)
from components.jobs.place import Limits, Place
from components.jobs.watch import Task, run, say
from core.config import Config
from core.errors import UserError
from core.files import write_atomic
from tuning.engine import STORE_BYTES
from tuning.records import Sweep
from tuning.result import SweepResult
from tuning.sweep import read

STEP = "tune"
SETTINGS, REPORT = "settings.json", "error.json"
KEEP_SECONDS = 60
"""How long the Ray cluster stays after the driver: its last lines are read meanwhile. The step removes it."""
PORTS = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}
AGENT = 52365
"""Where Ray's agent says that it is well."""


class RayNodes(Limits):
    """How a sweep is spread: a head, and as many workers of its size."""

    workers: Annotated[int, Field(ge=0)] = 0
    priority: str = ""
    """PriorityClass of the pods."""
    labels: dict[str, str] = Field(default={})
    """Of the RayJob, for example Kueue's queue and priority class."""


class Spread(Config):
    """A sweep on the cluster, complete."""

    place: Place
    nodes: RayNodes


def ray_job(spec: Spread, settings: Path, folder: Path, budget: float, run: str, owner: Owner | None) -> Json:
    """The RayJob that runs the sweep of a file in `folder`; `budget`: seconds, 0 without a limit."""
    nodes = spec.nodes
    body: Json = {
        "entrypoint": shlex.join(["python", "-m", "tuning", str(settings), str(folder), f"{budget:g}"]),
        "submissionMode": "HTTPMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": KEEP_SECONDS,
        "activeDeadlineSeconds": nodes.deadline,
        "backoffLimit": 0,  # the step tries again, and only what can help
    }
    name = name_of(STEP, run, {**body, "image": spec.place.image})
    described = metadata(name, STEP, run, owner)
    described["labels"] = {**nodes.labels, **described["labels"]}
    template = _template(spec, pod_metadata(name, STEP, run), folder / REPORT)
    body["rayClusterSpec"] = {
        "headGroupSpec": {
            "rayStartParams": {"dashboard-host": "0.0.0.0", **_capacity(spec.place)},  # nosec B104 # in its pod
            "template": template,
        },
        **({"workerGroupSpecs": [_workers(spec, template)]} if nodes.workers else {}),
    }
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": described, "spec": body}


def _capacity(place: Place) -> dict[str, str]:
    """What Ray hands out on a node; without limits it would count the machine's cores."""
    found = {"object-store-memory": str(STORE_BYTES)}
    if place.resources:
        found["num-cpus"] = str(place.resources.cores)
    if place.gpu:
        found["num-gpus"] = str(place.gpu.count)
    return found


def _workers(spec: Spread, template: Json) -> Json:
    count = spec.nodes.workers
    container = {key: value for key, value in template["spec"]["containers"][0].items() if key != "ports"}
    plain = {**template, "spec": {**template["spec"], "containers": [{**container, "name": "ray-worker"}]}}
    return {
        "groupName": "trials",
        "replicas": count,
        "minReplicas": count,
        "maxReplicas": count,
        "rayStartParams": _capacity(spec.place),
        "template": plain,
    }


def _template(spec: Spread, described: Json, report: Path) -> Json:
    place = spec.place
    plain = {"TITRATE_ERROR_FILE": str(report), "RAY_USAGE_STATS_ENABLED": "0"}
    # KubeRay's own probe calls wget, which the image does not have.
    healthy = {"httpGet": {"path": "/api/local_raylet_healthz", "port": AGENT}, "periodSeconds": 5}
    container = {
        "name": "ray-head",
        "image": place.image,
        "env": variables(place, plain),
        "resources": resources(place),
        "securityContext": container_security(),
        "volumeMounts": mounts(place),
        "ports": [{"name": name, "containerPort": port} for name, port in PORTS.items()],
        "readinessProbe": {**healthy, "timeoutSeconds": 2, "failureThreshold": 10},
        "livenessProbe": {**healthy, "timeoutSeconds": 5, "initialDelaySeconds": 60, "failureThreshold": 24},
    }
    priority = {"priorityClassName": spec.nodes.priority} if spec.nodes.priority else {}
    return {"metadata": described, "spec": {**pod(place), **priority, "containers": [container]}}


def tune_on_cluster(spec: Spread, settings: Sweep, folder: Path, budget: float, name: str) -> SweepResult:
    """Run the sweep as a RayJob in `folder`, which is on the volume that its pods mount; returns what it found.

    Raises UserError for a budget beyond the deadline, what the driver reported, what `components.jobs.watch.run` does.
    """
    if budget >= spec.nodes.deadline:
        raise UserError(
            f"the budget of {budget:g} s is beyond the deadline of {spec.nodes.deadline} s; raise `deadline`"
        )
    file, report = folder / SETTINGS, folder / REPORT
    write_atomic(file, settings.model_dump_json(indent=1))
    manifest = ray_job(spec, file, folder, budget, name, Owner.of(os.environ))
    run(Cluster.open(), Task(RAY_JOBS, manifest, DriverLog(), report), spec.nodes)
    return read(folder)


class DriverLog:
    """Shows what the driver has printed since the last look, and how far KubeRay is before there is a driver."""

    def __init__(self) -> None:
        self._shown, self._state = 0, ""

    def __call__(self, job: Json) -> None:
        """Show what is new."""
        status = job.get("status", {})
        state = status.get("jobDeploymentStatus", "")
        if state != self._state:
            self._state = state
            say(f"{job['metadata']['name']}: {state} {status.get('message', '')}".rstrip())
        if status.get("dashboardURL") and status.get("jobId"):
            self._show(f"http://{status['dashboardURL']}/api/jobs/{status['jobId']}/logs")

    def _show(self, address: str) -> None:
        try:
            answer = httpx.get(address, timeout=5, trust_env=False)
        except httpx.TransportError:  # a log is worth no sweep; the next look asks again
            return
        if answer.is_success:
            text = str(answer.json().get("logs") or "")
            whole = text.rfind("\n") + 1
            for line in text[self._shown : whole].splitlines():
                say(line)
            self._shown = max(self._shown, whole)
