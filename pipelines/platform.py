"""Where the tasks of a graph run on a cluster: image, volume, secrets, GPUs. One file for a Kubeflow installation.

The laptop's graph names every folder and address as a parameter. On a platform they are its facts, so they are put in
when the graph is compiled, and a person who starts a run in the dashboard is asked for the data and the recipe alone.
"""

from collections.abc import Callable
from typing import Annotated, Any

from kfp import dsl, kubernetes
from kfp.dsl.pipeline_context import Pipeline
from pydantic import Field

from components.jobs.place import Gpu, Place, Resources, Toleration
from components.train.cluster import Distributed, Nodes
from core.config import Config
from core.images import TRAIN_IMAGE

VOLUME, KEYS = "/var/lib/titrate", "/var/run/titrate/keys"
"""Where the volume and the signing key pair are mounted."""
TRAINS, SIGNS = "train", "publish"
"""The steps that get the GPUs and the keys."""


class Platform(Config):
    """A Kubeflow installation, as the pipelines see it."""

    endpoint: str = Field(pattern=r"^https?://[^/]+")
    """Of the KFP API, for example the address of its ingress with `/pipeline`."""
    namespace: str | None = None
    """The profile that runs belong to; none: an installation for a single user."""
    service_account: str | None = None
    """Of the tasks' pods; none: KFP's own."""
    experiment: str = "titrate"
    store: str = Field(pattern=r"^(s3|gs|az|abfs|file)://")
    """URI of the object store for images and releases."""
    tracking: str = Field(pattern=r"^https?://")
    """MLflow's address."""
    claim: str
    """PersistentVolumeClaim with the data, the checkpoints and the caches; every task mounts it."""
    keys: str
    """Secret with the key pair that signs releases: `signing.pem` and `signing.pub`."""
    environment: dict[str, dict[str, str]] = Field(default={})
    """Secret -> its key -> environment variable: credentials of the object store and of MLflow."""
    image: str = TRAIN_IMAGE
    """On a registry that the nodes reach."""
    pull_secrets: tuple[str, ...] = ()
    gpu: Gpu | None = None
    node_selector: dict[str, str] = Field(default={})
    tolerations: tuple[Toleration, ...] = ()
    """Of every task, for example spot nodes: a task that is lost with its node is tried again."""
    resources: dict[str, Resources] = Field(default={})
    """By step."""
    training: Nodes | None = None
    """Train on many nodes, as a TrainJob that the step makes and watches: GPUs and the resources of `train` are then
    those of each node. None: in the step's own pod."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Of a task that failed; each goes on from what was done."""

    def distributed(self) -> str:
        """What the step `train` makes a TrainJob of, JSON; empty when it trains itself."""
        if self.training is None:
            return ""
        place = Place(
            image=self.image,
            claim=self.claim,
            volume=VOLUME,
            environment=self.environment,
            pull_secrets=self.pull_secrets,
            resources=self.resources.get(TRAINS),
            gpu=self.gpu,
            node_selector=self.node_selector,
            tolerations=self.tolerations,
        )
        return Distributed(place=place, nodes=self.training).model_dump_json()


def placed(graph: Any, platform: Platform, config: str) -> Any:
    """The graph on this platform: parameters `source`, `config` (default: the given one) and `nproc`."""
    described = {name: graph.component_spec.inputs[name] for name in ("source", "config", "nproc")}

    def pipeline(source: str, config: str = config, nproc: int = 0) -> None:
        graph.pipeline_func(
            source=source,
            config=config,
            nproc=nproc,
            run=dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
            started_at=dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER,
            store=platform.store,
            tracking=platform.tracking,
            keys=KEYS,
            work=f"{VOLUME}/work",
            cache=f"{VOLUME}/cache",
            cluster=platform.distributed(),
        )
        for step, task in Pipeline.get_default_pipeline().tasks.items():
            _place(task, step, platform)

    lines = [f"        {name}: {item.description}" for name, item in described.items()]
    pipeline.__doc__ = "\n".join([f"{graph.description}\n", "    Args:", *lines])
    decorate: Callable[[Callable[..., None]], Any] = dsl.pipeline(name=graph.name, description=graph.description)
    return decorate(pipeline)


def _place(task: dsl.PipelineTask, step: str, platform: Platform) -> None:
    task.set_container_image(platform.image)
    task.set_retry(platform.retries, backoff_duration="30s", backoff_factor=2)
    kubernetes.mount_pvc(task, platform.claim, VOLUME)
    if step == SIGNS:
        kubernetes.use_secret_as_volume(task, platform.keys, KEYS)
    for secret, variables in platform.environment.items():
        kubernetes.use_secret_as_env(task, secret, variables)
    if platform.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(platform.pull_secrets))
    elsewhere = step == TRAINS and platform.training is not None
    if (resources := platform.resources.get(step)) and not elsewhere:
        task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu)
        task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
    gpu = platform.gpu if step == TRAINS and not elsewhere else None
    if gpu:
        task.set_accelerator_type(gpu.resource).set_accelerator_limit(gpu.count)
    labels = platform.node_selector | (gpu.node_selector if gpu else {})
    for name, value in labels.items():
        kubernetes.add_node_selector(task, name, value)
    for one in (*platform.tolerations, *(gpu.tolerations if gpu else ())):
        kubernetes.add_toleration(task, one.key, one.operator, one.value, one.effect)
