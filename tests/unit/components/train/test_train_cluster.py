"""The step's half of a TrainJob: what its pods find on the volume, and what comes back (tests/cluster has the pods)."""

import os
import subprocess
import sys
from pathlib import Path

from components.jobs.place import Place
from components.train import cluster
from components.train.cluster import Distributed, Nodes, train_where
from components.train.job import CHECKPOINT, CURVES, MODEL, Tracking, TrainResult
from core.objects import Store
from tests.unit.components.train.conftest import small


def test_the_command_of_the_job_trains_and_its_result_comes_back(source, tmp_path, monkeypatch):
    """The node is a process of this machine: the command and the environment are the manifest's."""
    spec = Distributed(place=Place(image="i", claim="c", volume=str(tmp_path)), nodes=Nodes(nodes=1))
    ran = []

    def node(_, task, limits):
        trainer = task.manifest["spec"]["trainer"]
        ran.append(trainer["command"])
        told = {one["name"]: one["value"] for one in trainer["env"]}
        environment = {**os.environ, **told, "PYTHONPATH": str(Path.cwd()), "GLOO_SOCKET_IFNAME": "lo"}
        subprocess.run([sys.executable, *trainer["command"][1:]], env=environment, check=True)
        assert limits.retries == 3

    monkeypatch.setattr(cluster, "run", node)
    monkeypatch.setattr(cluster.Cluster, "open", lambda: None)
    tracking = Tracking(uri=f"sqlite:///{tmp_path / 'mlflow.db'}", experiment="pills", run="run-1")
    config = small(max_epochs=1, min_epochs=1, batch=32)
    objects, out = Store(str(source / "objects")), tmp_path / "out"
    result = train_where(
        spec.model_dump_json(), source / "data", config, objects, tmp_path / "work", out, tracking, nproc=4
    )
    (folder,) = (tmp_path / "work" / "train").iterdir()
    assert {"dataset", "out", "job.json", CHECKPOINT} <= {path.name for path in folder.iterdir()}
    assert {MODEL, CURVES} <= {path.name for path in out.iterdir()}
    assert TrainResult.from_file(out / "train.json") == result
    assert (result.processes, result.epochs) == (1, 1), "as many as the job has, not nproc"
    assert ran == [["python", "-m", "torch.distributed.run", "-m", "components.train", str(folder / "job.json")]]
