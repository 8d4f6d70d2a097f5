"""The step's half of a RayJob: what the driver prints, and what is refused (tests/cluster has a real one)."""

import httpx
import pytest

from components.jobs.place import Place
from core.errors import UserError
from tuning import cluster
from tuning.cluster import DriverLog, RayNodes, Spread, tune_on_cluster

JOB = {
    "metadata": {"name": "tune-1"},
    "status": {"jobDeploymentStatus": "Running", "dashboardURL": "head:8265", "jobId": "j"},
}


def test_each_whole_line_of_the_driver_is_shown_once(monkeypatch, capsys):
    texts = ["trial 1 finished\ntri", "trial 1 finished\ntrial 2 stopped\n"]
    asked = []

    def get(address, **_):
        asked.append(address)
        if not texts:
            raise httpx.ConnectError("the head has ended")
        return httpx.Response(200, json={"logs": texts.pop(0)})

    monkeypatch.setattr(httpx, "get", get)
    show = DriverLog()
    show({"metadata": {"name": "tune-1"}})
    for _ in range(3):
        show(JOB)
    assert asked == ["http://head:8265/api/jobs/j/logs"] * 3
    assert capsys.readouterr().out.splitlines() == ["tune-1: Running", "trial 1 finished", "trial 2 stopped"]


def test_a_budget_beyond_the_deadline_is_refused_before_anything_starts(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster.Cluster, "open", lambda: pytest.fail("it asked the cluster"))
    spec = Spread(place=Place(image="i", claim="c", volume="/v"), nodes=RayNodes(deadline=60))
    with pytest.raises(UserError, match="beyond the deadline of 60 s"):
        tune_on_cluster(spec, None, tmp_path, 60.0, "run")
