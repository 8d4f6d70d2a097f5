"""The output of a job's pods, as it comes: read again at each look, so that a broken connection costs nothing."""

import time
from typing import Any

from components.jobs.cluster import Cluster
from components.jobs.manifest import Json
from components.jobs.watch import say

INDEX = "batch.kubernetes.io/job-completion-index"
MARGIN_SECONDS = 60
"""Of each read that overlaps the one before: clocks of nodes differ. What was shown is told by its time stamp."""


class PodLogs:
    """Shows each line once, after the number of its node; and why a pod does not start, when that changes."""

    def __init__(self, cluster: Cluster, job: str) -> None:
        self._cluster, self._job = cluster, job
        self._last: dict[str, str] = {}
        self._read: dict[str, float] = {}
        self._said: dict[str, str] = {}

    def __call__(self, job: Json) -> None:
        """Show what is new."""
        for pod in self._cluster.pods(self._job):
            name = pod.metadata.name
            node = pod.metadata.labels.get(INDEX, name)
            if (why := waiting(pod)) != self._said.get(name, ""):
                self._said[name] = why
                say(f"[{node}] {f'waits: {why}' if why else 'runs'}")
            if pod.status.phase != "Pending":
                self._show(name, node)

    def _show(self, name: str, node: str) -> None:
        now, before = time.time(), self._read.get(name)
        text = self._cluster.log(name, None if before is None else int(now - before) + MARGIN_SECONDS)
        self._read[name] = now
        for stamp, line in stamped(text):
            if stamp > self._last.get(name, ""):
                self._last[name] = stamp
                say(f"[{node}] {line}")


def stamped(text: str) -> list[tuple[str, str]]:
    """(time, line) of a log; times sort as text: without their Z, which sorts after a fraction's digits."""
    parts = (line.partition(" ") for line in text.splitlines())
    return [(stamp.removesuffix("Z"), line) for stamp, _, line in parts]


def waiting(pod: Any) -> str:
    """Why a pod (V1Pod) does not run yet, or again; empty when it runs or has ended."""
    for status in pod.status.container_statuses or []:
        if status.state.waiting and status.state.waiting.reason not in {"ContainerCreating", "PodInitializing"}:
            return f"{status.state.waiting.reason} {status.state.waiting.message or ''}".strip()
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"{condition.reason} {condition.message or ''}".strip()
    return ""
