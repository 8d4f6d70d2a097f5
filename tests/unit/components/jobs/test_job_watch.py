"""A step and its job, against the states that a real API server goes through (tests/cluster has the real one)."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.jobs.cluster import TRAIN_JOBS
from components.jobs.logs import PodLogs, stamped, waiting
from components.jobs.place import Limits
from components.jobs.reap import GRACE, due
from components.jobs.states import Outcome, ray_job, train_job
from components.jobs.watch import Task, run
from core.errors import TemporaryError, UserError

OWNERS = [{"apiVersion": "v1", "kind": "Pod", "name": "step", "uid": "1"}]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def condition(kind: str, reason: str = "", message: str = "") -> dict:
    """A TrainJob's status."""
    return {"conditions": [{"type": kind, "status": "True", "reason": reason, "message": message}]}


class Server:
    """Keeps one TrainJob; `lives`: for each time that it is created, what happens to its status at each look."""

    def __init__(self, *lives: list[dict | Callable[[], dict] | Exception]) -> None:
        self.lives = list(lives)
        self.job: dict | None = None
        self.calls: list[str] = []
        self.life: list[Any] = []

    def get(self, kind: object, name: str) -> dict | None:
        if self.job and self.life:
            step = self.life.pop(0)
            if isinstance(step, Exception):
                raise step
            self.job = {**self.job, "status": step() if callable(step) else step}
        return self.job

    def create(self, kind: object, manifest: dict) -> None:
        self.calls.append("create")
        self.job, self.life = manifest, self.lives.pop(0)

    def own(self, kind: object, name: str, owners: list) -> None:
        self.calls.append(f"own by {owners[0]['name']}")

    def delete(self, kind: object, name: str) -> None:
        self.calls.append("delete")
        self.job = None


@pytest.fixture
def task(tmp_path: Path) -> Task:
    manifest = {"metadata": {"name": "train-1", "ownerReferences": OWNERS}}
    return Task(TRAIN_JOBS, manifest, lambda _: None, tmp_path / "error.json")


def report(task: Task, kind: str, message: str) -> Callable[[], dict]:
    """A look at which the job's processes have reported an error."""

    def look() -> dict:
        task.report.write_text(json.dumps({"type": kind, "message": message, "rows": [], "step": "train"}))
        return {}

    return look


def go(server: Server, task: Task, **limits: int) -> None:
    run(server, task, Limits(**limits), poll=0)  # type: ignore[arg-type]


def test_a_job_that_succeeds_is_removed(task: Task) -> None:
    server = Server([{}, condition("Complete")])
    go(server, task)
    assert server.calls == ["create", "delete"]


def test_a_running_job_of_an_earlier_attempt_is_taken_over(task: Task) -> None:
    server = Server()
    server.job, server.life = {"metadata": {"name": "train-1"}}, [{}, {}, condition("Complete")]
    go(server, task)
    assert server.calls == ["own by step", "delete"]


def test_a_failed_job_of_an_earlier_attempt_is_made_again(task: Task) -> None:
    server = Server([condition("Complete")])
    server.job = {"metadata": {"name": "train-1"}, "status": condition("Failed")}
    go(server, task)
    assert server.calls == ["delete", "create", "delete"]


def test_the_users_error_is_raised_at_once_and_not_tried_again(task: Task) -> None:
    server = Server([{}, report(task, "UserError", "lower train.lr")])
    with pytest.raises(UserError, match=r"lower train\.lr"):
        go(server, task)
    assert server.calls == ["create", "delete"]


def test_an_interrupted_job_is_made_again_without_its_old_report(task: Task) -> None:
    server = Server([report(task, "TemporaryError", "interrupted")], [{}, condition("Complete")])
    go(server, task)
    assert server.calls == ["create", "delete", "create", "delete"]
    assert not task.report.exists()


def test_a_job_that_ends_without_a_reason_is_made_again_so_often(task: Task) -> None:
    server = Server(*[[condition("Failed", "JobsFailed", "node lost")] for _ in range(3)])
    with pytest.raises(TemporaryError, match="JobsFailed node lost"):
        go(server, task, retries=2)
    assert server.calls.count("create") == 3


def test_a_job_that_is_late_is_not_made_again(task: Task) -> None:
    server = Server([condition("Failed", "DeadlineExceeded", "active longer than")])
    with pytest.raises(UserError, match="raise `deadline`"):
        go(server, task)
    assert server.calls == ["create", "delete"]


def test_an_api_server_that_is_away_for_a_while_is_waited_for(task: Task) -> None:
    server = Server([*[TemporaryError("away")] * 5, condition("Complete")])
    go(server, task)
    assert server.calls == ["create", "delete"]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, "running"),
        ({"jobStatus": "RUNNING", "jobDeploymentStatus": "Running"}, "running"),
        ({"jobStatus": "SUCCEEDED", "jobDeploymentStatus": "Complete"}, "succeeded"),
        ({"jobStatus": "FAILED", "jobDeploymentStatus": "Failed"}, "failed"),
        ({"jobStatus": "", "jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, "failed"),
    ],
)
def test_a_rayjob_is_as_far_as_its_driver(status: dict, state: str) -> None:
    assert ray_job({"status": status}).state == state
    assert train_job({"status": condition("Suspended")}).state == "running"


def pod(phase: str, ended: datetime | None = None, uid: str = "1") -> Any:
    """A V1Pod, as far as it is looked at."""
    state = SimpleNamespace(waiting=None, terminated=SimpleNamespace(finished_at=ended) if ended else None)
    status = SimpleNamespace(phase=phase, container_statuses=[SimpleNamespace(state=state)], conditions=[])
    return SimpleNamespace(metadata=SimpleNamespace(uid=uid, name="node", labels={}), status=status)


LONG_AGO, JUST_NOW = NOW - 2 * GRACE, NOW - timedelta(seconds=5)


@pytest.mark.parametrize(
    ("outcome", "owner", "why"),
    [
        (Outcome("running"), pod("Running"), ""),
        (Outcome("running"), None, "is gone"),
        (Outcome("running"), pod("Running", uid="2"), "is gone"),
        (Outcome("running"), pod("Failed", JUST_NOW), ""),  # Kubeflow may try the step again
        (Outcome("running"), pod("Failed", LONG_AGO), "its step step ended"),
        (Outcome("succeeded", ended=JUST_NOW), pod("Running"), ""),
        (Outcome("succeeded", ended=LONG_AGO), pod("Running"), "it succeeded at"),
    ],
)
def test_the_reaper_takes_what_nobody_waits_for(outcome: Outcome, owner: Any, why: str) -> None:
    found = due({"metadata": {"ownerReferences": OWNERS}}, outcome, owner, NOW, GRACE)
    assert why in found
    assert bool(why) == bool(found)
    assert not due({"metadata": {}}, Outcome("running"), None, NOW, GRACE)


def test_each_line_of_a_log_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["2026-01-01T00:00:00.5Z one", "2026-01-01T00:00:00.51Z two", "2026-01-01T00:00:01Z three"]
    texts = ["\n".join(lines[:2]), "\n".join(lines)]
    server = SimpleNamespace(pods=lambda _: [pod("Running")], log=lambda *_: texts.pop(0))
    show = PodLogs(server, "train-1")  # type: ignore[arg-type]
    show({})
    show({})
    assert capsys.readouterr().out.splitlines() == ["[node] one", "[node] two", "[node] three"]
    assert stamped("2026-01-01T00:00:00Z ") == [("2026-01-01T00:00:00", "")]


def test_a_pod_that_does_not_start_says_why() -> None:
    stuck = pod("Pending")
    stuck.status.container_statuses[0].state.waiting = SimpleNamespace(reason="ImagePullBackOff", message="no image")
    assert waiting(stuck) == "ImagePullBackOff no image"
    homeless = pod("Pending")
    homeless.status.container_statuses = None
    homeless.status.conditions = [
        SimpleNamespace(type="PodScheduled", status="False", reason="Unschedulable", message="0/1 nodes")
    ]
    assert waiting(homeless) == "Unschedulable 0/1 nodes"
