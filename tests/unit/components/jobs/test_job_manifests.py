"""What the steps ask Trainer and KubeRay for: the agreed manifests, which the real definitions take.

After a wanted change: `python -m tests.unit.components.jobs.test_job_manifests > tests/unit/components/jobs/jobs.yaml`.
"""

import json
import os
from pathlib import Path

import jsonschema
import pytest
import yaml

from components.jobs.manifest import RUN, Owner, labels, name_of
from components.jobs.place import Gpu, Place, Resources, Toleration
from components.train.cluster import Distributed, Nodes, train_job
from tuning.cluster import RayNodes, Spread, ray_job

GOLDEN = Path(__file__).with_name("jobs.yaml")
PLACE = Place(
    image="registry.example/titrate/train:0.1.0",
    claim="titrate-work",
    volume="/var/lib/titrate",
    environment={"titrate-s3": {"id": "AWS_ACCESS_KEY_ID", "key": "AWS_SECRET_ACCESS_KEY"}},
    pull_secrets=("registry",),
    resources=Resources(cpu="4", memory="16Gi"),
    gpu=Gpu(count=2, node_selector={"gpu": "a10"}, tolerations=(Toleration(key="nvidia.com/gpu"),)),
    node_selector={"pool": "spot"},
    tolerations=(Toleration(key="spot", operator="Equal", value="yes"),),
)
OWNER = Owner(name="pills-abc-train", uid="7c0b")
WORK = Path("/var/lib/titrate/work")


def manifests() -> list[dict]:
    training = Distributed(place=PLACE, nodes=Nodes(nodes=4, labels={"kueue.x-k8s.io/queue-name": "gpus"}))
    sweep = Spread(place=PLACE, nodes=RayNodes(workers=2, priority="low"))
    return [
        train_job(training, WORK / "train/1f/job.json", WORK / "train/1f/error.json", "pills-abc", OWNER),
        ray_job(sweep, WORK / "sweeps/s/settings.json", WORK / "sweeps/s", 600.0, "pills-abc", OWNER),
    ]


def test_the_manifests_are_the_agreed_ones() -> None:
    assert manifests() == list(yaml.safe_load_all(GOLDEN.read_text()))


@pytest.mark.skipif("TITRATE_SCHEMAS" not in os.environ, reason="TITRATE_SCHEMAS names no folder of schemas")
@pytest.mark.parametrize("manifest", manifests(), ids=lambda one: one["kind"])
def test_the_real_definitions_take_them(manifest: dict) -> None:
    group, version = manifest["apiVersion"].split("/")
    file = Path(os.environ["TITRATE_SCHEMAS"], group, f"{manifest['kind'].lower()}_{version}.json")
    wrong = jsonschema.Draft202012Validator(json.loads(file.read_text())).iter_errors(manifest)
    assert not [f"{list(error.path)}: {error.message}" for error in wrong]


def test_a_repeated_step_names_the_same_job_and_another_run_another() -> None:
    body = {"image": "a"}
    assert name_of("train", "run-1", body) == name_of("train", "run-1", dict(body))
    assert len({name_of("train", "run-1", body), name_of("train", "run-2", body), name_of("train", "run-1", {})}) == 3


@pytest.mark.parametrize("run", ["x" * 64, "a run", "-x", "ü", ""])
def test_a_run_whose_name_is_no_label_is_labelled_by_its_digest(run: str) -> None:
    assert len(labels("train", run)[RUN]) == 40
    assert labels("train", "pills-abc.1_x")[RUN] == "pills-abc.1_x"


def test_outside_of_kubeflow_a_job_has_no_owner() -> None:
    assert Owner.of({}) is None
    assert Owner.of({"KFP_POD_NAME": "pod", "KFP_POD_UID": "1"}) == Owner(name="pod", uid="1")


@pytest.mark.parametrize(("cpu", "cores"), [("500m", 1), ("2500m", 2), ("4", 4), ("0.5", 1)])
def test_cores_are_whole(cpu: str, cores: int) -> None:
    assert Resources(cpu=cpu, memory="1Gi").cores == cores


if __name__ == "__main__":
    yaml.Dumper.ignore_aliases = lambda *_: True
    print(yaml.dump_all(manifests(), sort_keys=False), end="")
