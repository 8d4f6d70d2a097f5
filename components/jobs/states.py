"""What a job says of itself, in one form for all kinds."""

from collections.abc import Callable
from datetime import datetime
from typing import Literal, NamedTuple

from components.jobs.cluster import RAY_JOBS, TRAIN_JOBS, Kind
from components.jobs.manifest import Json

LATE = "DeadlineExceeded"


class Outcome(NamedTuple):
    """How far a job is."""

    state: Literal["running", "succeeded", "failed"]
    """running: waiting and suspended ones too."""
    reason: str = ""
    """LATE when the deadline ended it."""
    message: str = ""
    ended: datetime | None = None


def train_job(job: Json) -> Outcome:
    """Of a TrainJob: by its conditions."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["status"] == "True" and condition["type"] in {"Complete", "Failed"}:
            return Outcome(
                "succeeded" if condition["type"] == "Complete" else "failed",
                condition.get("reason", ""),
                condition.get("message", ""),
                moment(condition.get("lastTransitionTime")),
            )
    return Outcome("running")


def ray_job(job: Json) -> Outcome:
    """Of a RayJob: by what the driver came to, and by what KubeRay says where there is none."""
    status = job.get("status", {})
    told = status.get("reason", ""), status.get("message", ""), moment(status.get("endTime"))
    if status.get("jobStatus") == "SUCCEEDED":
        return Outcome("succeeded", *told)
    if status.get("jobStatus") in {"FAILED", "STOPPED"} or status.get("jobDeploymentStatus") == "Failed":
        return Outcome("failed", *told)
    return Outcome("running")


def moment(text: str | None) -> datetime | None:
    """A time of Kubernetes, with its zone."""
    return datetime.fromisoformat(text) if text else None


OUTCOMES: dict[Kind, Callable[[Json], Outcome]] = {TRAIN_JOBS: train_job, RAY_JOBS: ray_job}
