"""Which jobs nobody waits for any more: a step that is terminated in Kubeflow ends within 0.1 s and removes nothing.

Called every few minutes (`python -m components.jobs`, a CronJob in kustomize/base/jobs).
"""

from datetime import datetime, timedelta
from typing import Any

from components.jobs.cluster import Cluster
from components.jobs.manifest import Json
from components.jobs.states import OUTCOMES, Outcome

GRACE = timedelta(minutes=10)
"""Kubeflow tries a lost step again, and that finds its job: longer than `placed` waits between two tries."""


def due(job: Json, outcome: Outcome, owner: Any, now: datetime, grace: timedelta) -> str:
    """Why `job` must go; empty when it may stay. `owner`: its step's pod (V1Pod), none where there is none."""
    if outcome.ended and now - outcome.ended > grace:
        return f"it {outcome.state} at {outcome.ended.isoformat()}"
    references = [one for one in job["metadata"].get("ownerReferences", []) if one["kind"] == "Pod"]
    if not references or job["metadata"].get("deletionTimestamp"):
        return ""  # without a step it has its deadline alone
    name = references[0]["name"]
    if owner is None or owner.metadata.uid != references[0]["uid"]:
        return f"its step {name} is gone"
    ended = _end(owner)
    if ended and now - ended > grace:
        return f"its step {name} ended at {ended.isoformat()}"
    return ""


def _end(pod: Any) -> datetime | None:
    """When the pod's last container ended; none while it runs."""
    if pod.status.phase not in {"Succeeded", "Failed"}:
        return None
    ends = [one.state.terminated.finished_at for one in pod.status.container_statuses or [] if one.state.terminated]
    conditions = [one.last_transition_time for one in pod.status.conditions or []]
    found: datetime = max(ends or conditions or [pod.metadata.creation_timestamp])
    return found


def reap(cluster: Cluster, now: datetime, grace: timedelta = GRACE) -> list[str]:
    """Remove what is due in the cluster's namespace; returns a line for each."""
    lines = []
    for kind, outcome in OUTCOMES.items():
        for job in cluster.jobs(kind):
            name = job["metadata"]["name"]
            owners = [one["name"] for one in job["metadata"].get("ownerReferences", []) if one["kind"] == "Pod"]
            owner = cluster.pod(owners[0]) if owners else None
            if why := due(job, outcome(job), owner, now, grace):
                cluster.delete(kind, name)
                lines.append(f"removed {kind.plural}/{name}: {why}")
    return lines
