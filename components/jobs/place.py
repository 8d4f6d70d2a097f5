"""Where the pods of a job run: image, volume, credentials, nodes. pipelines/platform.py fills it from its own file."""

from typing import Annotated, Literal

from pydantic import Field

from core.config import Config

Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")]


class Toleration(Config):
    """A taint of nodes that tasks may run on, as Kubernetes names it."""

    key: str
    operator: Literal["Equal", "Exists"] = "Exists"
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"


class Gpu(Config):
    """What the training step gets."""

    resource: str = "nvidia.com/gpu"
    """The resource of the nodes' device plugin."""
    count: Annotated[int, Field(ge=1)] = 1
    """On one node; a training process each."""
    node_selector: dict[str, str] = Field(default={})
    """Labels of its nodes, for example the GPU's type."""
    tolerations: tuple[Toleration, ...] = ()


class Resources(Config):
    """What one step asks for, and may use at most."""

    cpu: Quantity
    memory: Quantity

    @property
    def cores(self) -> int:
        """Whole cores, at least one."""
        return max(1, int(float(self.cpu[:-1]) / 1000 if self.cpu.endswith("m") else float(self.cpu)))


class Place(Config):
    """Where each pod of a job runs, and what it sees."""

    image: str
    claim: str
    """PersistentVolumeClaim that the step and the pods share: the job's files, checkpoints, results (ReadWriteMany)."""
    volume: str
    """Where it is mounted, in the step as in the pods: paths mean the same in both."""
    environment: dict[str, dict[str, str]] = Field(default={})
    """Secret -> its key -> environment variable."""
    pull_secrets: tuple[str, ...] = ()
    resources: Resources | None = None
    """Of one pod."""
    gpu: Gpu | None = None
    """Of one pod."""
    node_selector: dict[str, str] = Field(default={})
    tolerations: tuple[Toleration, ...] = ()
    user: int = 10001
    """The image's; the volume is made writable for it as a group, where its driver does that."""


class Limits(Config):
    """How long a job may take, and how often it is made again."""

    deadline: Annotated[int, Field(ge=1)] = 86_400
    """Seconds of one attempt, waiting for nodes included; the cluster ends the job then, whether the step lives or
    not."""
    retries: Annotated[int, Field(ge=0)] = 3
    """Of a job that was interrupted or ended without a reason, as when its spot nodes go: each goes on from the last
    checkpoint. What the user must put right is not tried again."""
