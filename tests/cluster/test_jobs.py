"""The steps `train` and `tune` as pods with the rights that kustomize/base/jobs grants: their jobs run, and are gone.

Needs Kubeflow Trainer 2 or KubeRay, and the image of the role train on the nodes, as TITRATE_TRAIN_IMAGE names it.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.jobs.cluster import RAY_JOBS, TRAIN_JOBS, Kind
from components.jobs.place import Place, Resources
from components.train.cluster import Distributed, Nodes
from core.objects import Store
from tests.cluster.conftest import ROOT, Cluster
from tests.pictures import write_dataset
from tests.unit.components.train.conftest import small
from tuning.cluster import RayNodes, Spread

pytestmark = pytest.mark.cluster
NAMESPACE, CLAIM, VOLUME = "titrate-jobs", "titrate-work", "/var/lib/titrate"

TRAIN = """
import os, sys, tempfile, threading, time
from pathlib import Path
from components.train.cluster import train_where
from components.train.job import Tracking
from core.objects import Store
from core.step import reporting_errors
from workloads.contract import load
cluster, config, run, *kill = sys.argv[1:]
home = Path("/var/lib/titrate")
began = time.time()


def saved():
    return any(file.stat().st_mtime > began for file in home.glob("work/train/*/checkpoint.safetensors"))


def killed():
    while not saved():
        time.sleep(0.5)
    os._exit(137)


if kill:
    threading.Thread(target=killed, daemon=True).start()
tracking = Tracking(uri=f"sqlite:///{home}/mlflow.db", experiment="pills", run=run)
with reporting_errors("train"):
    config = load("pills").configuration(config)
    out = Path(tempfile.mkdtemp()) / "out"
    found = train_where(cluster, home / "data", config, Store(f"{home}/objects"), home / "work", out, tracking)
print("RESULT", found.model_dump_json(), sorted(p.name for p in out.iterdir()))
"""
TUNE = """
import sys, tempfile
from pathlib import Path
from core.step import reporting_errors
from tuning.step import tune
cluster, config, run = sys.argv[1:]
home, scratch = Path("/var/lib/titrate"), Path(tempfile.mkdtemp())
best = scratch / "best.json"
with reporting_errors("tune"):
    found = tune("pills", f"{home}/objects", config, run, f"sqlite:///{home}/mlflow.db", home / "work", 3, 0.0,
                 home / "data", best, scratch / "page.html", cluster)
print("RESULT", found.model_dump_json(exclude={"trials"}), [t.state for t in found.trials], best.exists())
"""
LEAVE = """
import os, sys
from pathlib import Path
from components.jobs.cluster import TRAIN_JOBS, Cluster
from components.jobs.manifest import Owner
from components.train.cluster import Distributed, train_job
cluster, config, run = sys.argv[1:]
nowhere = Path("/var/lib/titrate/nowhere")
manifest = train_job(Distributed.from_json(cluster, "cluster"), nowhere, nowhere, run, Owner.of(os.environ))
Cluster.open().create(TRAIN_JOBS, manifest)
"""


def _image() -> str:
    return os.environ["TITRATE_TRAIN_IMAGE"]


def _installed(kind: Kind) -> bool:
    name = f"{kind.plural}.{kind.group}"
    return not subprocess.run(["kubectl", "get", "crd", name], capture_output=True, check=False).returncode


@pytest.fixture(autouse=True)
def needed(request: pytest.FixtureRequest) -> None:
    """Skips, by name, where the kind's controller is missing."""
    kind = RAY_JOBS if "sweep" in request.node.name else TRAIN_JOBS
    if not _installed(kind):
        pytest.skip(f"{kind.needs} is not installed")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A namespace for restricted pods, with the rights, a volume, and a dataset on it."""
    here = Cluster(NAMESPACE)
    folder = tmp_path_factory.mktemp("jobs")
    here.kubectl("apply", "-f", "-", text=PLACE)
    here.kubectl("apply", "-k", str(_overlay(folder)))
    write_dataset(folder / "volume" / "data", Store(str(folder / "volume" / "objects")))
    try:
        here.kubectl("apply", "-f", "-", text=json.dumps(_pod("loader", ["-c", "import time; time.sleep(3600)"])))
        here.kubectl("wait", "pod/loader", "--for=condition=Ready", "--timeout=180s")
        here.upload(str(folder / "volume"), VOLUME)
        yield here
    finally:
        here.kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--timeout=180s", check=False)


def _overlay(folder: Path) -> Path:
    """The base for this namespace."""
    target = folder / "overlay"
    target.mkdir()
    subject = json.dumps([{"op": "replace", "path": "/subjects/0/namespace", "value": NAMESPACE}])
    name, _, tag = _image().rpartition(":")
    content = {
        "resources": [os.path.relpath(ROOT / "kustomize" / "base" / "jobs", target.resolve())],
        "namespace": NAMESPACE,
        "images": [{"name": "titrate/train", "newName": name, "newTag": tag}],
        "patches": [{"target": {"kind": "RoleBinding", "name": "titrate-jobs"}, "patch": subject}],
    }
    (target / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return target


PLACE = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: pipeline-runner, namespace: {NAMESPACE}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {CLAIM}, namespace: {NAMESPACE}}}
spec: {{accessModes: [ReadWriteMany], resources: {{requests: {{storage: 1Gi}}}}}}
"""


def _pod(name: str, arguments: list[str], account: str = "pipeline-runner") -> dict[str, Any]:
    """A pod as KFP makes them: it knows itself, and sees the volume."""
    known = [
        {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "KFP_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        {"name": "HOME", "value": "/tmp"},
    ]
    container = {
        "name": "main",
        "image": _image(),
        "args": arguments,
        "env": known,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "work", "mountPath": VOLUME}],
    }
    spec = {
        "serviceAccountName": account,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "work", "persistentVolumeClaim": {"claimName": CLAIM}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _run(here: Cluster, name: str, arguments: list[str], account: str = "pipeline-runner", seconds: float = 300) -> Any:
    """(phase, log) of a pod that has ended."""
    here.kubectl("apply", "-f", "-", text=json.dumps(_pod(name, arguments, account)))
    return _ended(here, name, seconds)


def _ended(here: Cluster, name: str, seconds: float = 300) -> Any:
    def ended() -> str:
        phase = str(here.get("pod", name)["status"]["phase"])
        return phase if phase in {"Succeeded", "Failed"} else ""

    try:
        phase = here.until(ended, f"the pod {name} ended", seconds)
    except AssertionError as error:
        raise AssertionError(here.kubectl("logs", name, check=False)) from error
    log = here.kubectl("logs", name)
    print(log)
    return phase, log


def _nothing_left(here: Cluster, kind: str) -> None:
    """A removed job is gone when its pods have ended."""
    here.until(lambda: not here.get(kind)["items"], f"no {kind}")


def _place(cpu: str, memory: str) -> Place:
    return Place(image=_image(), claim=CLAIM, volume=VOLUME, resources=Resources(cpu=cpu, memory=memory))


def _training(**limits: Any) -> str:
    return Distributed(place=_place("600m", "2Gi"), nodes=Nodes(nodes=2, deadline=240, **limits)).model_dump_json()


def test_a_training_on_two_nodes_leaves_its_result_and_no_job(here: Cluster) -> None:
    phase, log = _run(here, "step-train", ["-c", TRAIN, _training(), small().model_dump_json(), "run-1"])
    assert phase == "Succeeded", log
    result = json.loads(log.split("RESULT ")[1].split(" [")[0])
    assert result["processes"] == 2
    assert "model.safetensors" in log
    assert "[0] train: 24/24" in log, "the leader's log"
    _nothing_left(here, "trainjobs")
    files = here.kubectl("exec", "loader", "--", "find", f"{VOLUME}/work", "-name", "checkpoint.safetensors")
    assert len(files.split()) == 1


def test_what_the_user_must_put_right_is_told_once_and_leaves_no_job(here: Cluster) -> None:
    lost = small(lr=1e30, max_epochs=2, min_epochs=2).model_dump_json()
    phase, log = _run(here, "step-lost", ["-c", TRAIN, _training(), lost, "run-2"])
    assert phase == "Failed"
    assert "error: the loss is not a number" in log
    assert log.count(": created") == 1
    _nothing_left(here, "trainjobs")


def test_a_training_whose_step_and_whose_node_are_lost_goes_on(here: Cluster) -> None:
    """The step is killed and tried again as Kubeflow does; a node's pod is removed as by a spot interruption."""
    arguments = ["-c", TRAIN, _training(), small(max_epochs=30, min_epochs=30).model_dump_json(), "run-5"]
    phase, log = _run(here, "step-killed", [*arguments, "kill"])
    assert phase == "Failed", log
    (job,) = here.get("trainjobs")["items"]
    here.kubectl("apply", "-f", "-", text=json.dumps(_pod("step-again", arguments)))
    here.until(lambda: "found again" in here.kubectl("logs", "step-again", check=False), "the job is found again")
    assert here.get("trainjob", job["metadata"]["name"])["metadata"]["ownerReferences"][0]["name"] == "step-again"
    pods = here.get("pods", "-l", f"titrate.dev/job={job['metadata']['name']}")["items"]
    here.kubectl("delete", "pod", pods[1]["metadata"]["name"], "--wait=false")
    phase, log = _ended(here, "step-again", 360)
    assert phase == "Succeeded", log
    assert json.loads(log.split("RESULT ")[1].split(" [")[0])["resumed_at"] > 0
    _nothing_left(here, "trainjobs")


def test_what_a_terminated_step_left_is_reaped(here: Cluster) -> None:
    _run(here, "step-left", ["-c", LEAVE, _training(), "", "run-3"])
    assert len(here.get("trainjobs")["items"]) == 1
    kept = _run(here, "reaper-early", ["-m", "components.jobs"], "titrate-reaper")
    assert kept == ("Succeeded", "")
    phase, log = _run(here, "reaper", ["-m", "components.jobs", "0"], "titrate-reaper")
    assert phase == "Succeeded", log
    assert "its step step-left ended" in log
    _nothing_left(here, "trainjobs")


def test_a_sweep_runs_as_a_rayjob_and_leaves_no_job(here: Cluster) -> None:
    spread = Spread(place=_place("1200m", "5Gi"), nodes=RayNodes(deadline=420)).model_dump_json()
    phase, log = _run(here, "step-tune", ["-c", TUNE, spread, small().model_dump_json(), "run-4"], seconds=480)
    assert phase == "Succeeded", log
    assert "trial 3 " in log, "the driver's lines"
    assert "finished" in log.split("RESULT")[1]
    _nothing_left(here, "rayjobs")
