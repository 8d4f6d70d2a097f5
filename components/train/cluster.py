"""The training as a TrainJob of Kubeflow Trainer 2: many nodes, the same entry point, the same result.

What train.py prepares lies on the volume that the step and the pods share: the dataset, job.json, the checkpoints, the
result. torchrun reads its nodes from the environment that the runtime sets.
"""

import os
import shutil
from pathlib import Path
from typing import Annotated

from pydantic import Field

from components.jobs.cluster import TRAIN_JOBS, Cluster
from components.jobs.logs import PodLogs
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
from components.jobs.watch import Task, run
from components.train.job import Tracking, TrainResult
from components.train.train import train, working_folder
from core import progress
from core.config import Config
from core.files import new_folder
from core.objects import Store
from workloads.configuration import RunConfig

STEP = "train"
MANAGER = "titrate.dev/step"
NODE = "node"
"""The name that Trainer's runtimes give the replicated job and its container."""


class Nodes(Limits):
    """How a training is spread: the section `training` of a platform file."""

    nodes: Annotated[int, Field(ge=1)] = 2
    processes: Annotated[int, Field(ge=1)] | None = None
    """On each node; none: one per GPU, one where there is none."""
    runtime: str = "torch-distributed"
    """ClusterTrainingRuntime. A TrainJob cannot name a priority class: a runtime of your own carries it."""
    labels: dict[str, str] = Field(default={})
    """Of the TrainJob, for example Kueue's queue and priority class."""


class Distributed(Config):
    """A training on the cluster, complete."""

    place: Place
    nodes: Nodes

    @property
    def processes(self) -> int:
        """Of one node."""
        return self.nodes.processes or (self.place.gpu.count if self.place.gpu else 1)


def train_job(spec: Distributed, job: Path, report: Path, run: str, owner: Owner | None) -> Json:
    """The TrainJob that trains the job of a file; `report`: where its processes write their error."""
    place, nodes = spec.place, spec.nodes
    plain = {
        "OMP_NUM_THREADS": str(max(1, place.resources.cores // spec.processes) if place.resources else 1),
        "OMP_WAIT_POLICY": "passive",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "TITRATE_ERROR_FILE": str(report),
        progress.FILE: progress.LINES,
    }
    body: Json = {
        "runtimeRef": {"name": nodes.runtime},
        "activeDeadlineSeconds": nodes.deadline,
        "trainer": {
            "image": place.image,
            "command": ["python", "-m", "torch.distributed.run", "-m", "components.train", str(job)],
            "env": variables(place, plain),
            "numNodes": nodes.nodes,
            "numProcPerNode": spec.processes,
            "resourcesPerNode": resources(place),
        },
    }
    name = name_of(STEP, run, body)
    body["runtimePatches"] = [_patch(place, pod_metadata(name, STEP, run))]
    described = metadata(name, STEP, run, owner)
    described["labels"] = {**nodes.labels, **described["labels"]}
    return {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": described, "spec": body}


def _patch(place: Place, described: Json) -> Json:
    """What the runtime's pods get besides: the volume, nodes, rights."""
    container = {"name": NODE, "volumeMounts": mounts(place), "securityContext": container_security()}
    template = {"metadata": described, "spec": {**pod(place), "containers": [container]}}
    replicated = [{"name": NODE, "template": {"spec": {"template": template}}}]
    return {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": replicated}}}}


def train_where(
    cluster: str,
    dataset: Path,
    config: RunConfig,
    store: Store,
    work: Path,
    out: Path,
    tracking: Tracking,
    nproc: int | None = None,
) -> TrainResult:
    """Train as `train` does: here, or as the TrainJob that `cluster` describes (a Distributed, JSON; it says how many
    processes, not `nproc`).

    Raises what `train` and `components.jobs.watch.run` do.
    """
    if not cluster:
        return train(dataset, config, store, work, out, tracking, nproc)
    return train_on_cluster(Distributed.from_json(cluster, "cluster"), dataset, config, store, work, out, tracking)


def train_on_cluster(
    spec: Distributed, dataset: Path, config: RunConfig, store: Store, work: Path, out: Path, tracking: Tracking
) -> TrainResult:
    """Train as a TrainJob; `work` is on the volume that its pods mount."""
    folder = working_folder(work, dataset, config)
    if not (folder / "dataset").exists():
        with new_folder(folder / "dataset") as draft:
            shutil.copytree(dataset, draft, dirs_exist_ok=True)

    def start(job: Path, processes: int) -> None:
        report = job.with_name("error.json")
        manifest = train_job(spec, job, report, tracking.run, Owner.of(os.environ))
        cluster = Cluster.open()
        show = PodLogs(cluster, manifest["metadata"]["name"])
        run(cluster, Task(TRAIN_JOBS, manifest, show, report), spec.nodes)

    result = train(folder / "dataset", config, store, work, folder / "out", tracking, start=start)
    shutil.copytree(folder / "out", out, dirs_exist_ok=True)
    return result
