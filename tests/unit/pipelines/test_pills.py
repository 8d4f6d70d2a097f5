"""The compiled graph is the agreed one, and plain enough for a cluster."""

from pathlib import Path

import pytest
import yaml

from components.jobs.place import Gpu, Resources, Toleration
from components.train.cluster import Distributed, Nodes
from core.errors import UserError
from pipelines.compile import write_ir
from pipelines.platform import Platform

GOLDEN = Path(__file__).with_name("pills.yaml")
PLACED = Path(__file__).with_name("pills_placed.yaml")
"""What PLATFORM adds to `ingest`, as to every step without a part of its own, to `train` and to `publish`."""
DISTRIBUTED = Path(__file__).with_name("pills_distributed.yaml")
"""What the step `train` is told when PLATFORM trains on many nodes."""
PLATFORM = Platform(
    endpoint="https://kubeflow.example/pipeline",
    store="s3://titrate",
    tracking="http://mlflow:5000",
    claim="titrate-work",
    keys="titrate-signing",
    environment={"titrate-s3": {"id": "AWS_ACCESS_KEY_ID", "key": "AWS_SECRET_ACCESS_KEY"}},
    image="registry.example/titrate/train:0.1.0",
    pull_secrets=("registry",),
    gpu=Gpu(count=2, node_selector={"gpu": "a10"}, tolerations=(Toleration(key="nvidia.com/gpu"),)),
    node_selector={"pool": "spot"},
    tolerations=(Toleration(key="spot", operator="Equal", value="yes"),),
    resources={"train": Resources(cpu="8", memory="32Gi")},
)
STEPS = ("ingest", "validate", "split", "train", "export", "evaluate", "gate", "publish", "register")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("ir") / "pills.yaml"
    write_ir("pills", path)
    return yaml.safe_load(path.read_text())


def test_graph_is_the_agreed_one(graph: dict) -> None:
    """After a wanted change: `python -m pipelines.compile pills tests/unit/pipelines/pills.yaml`."""
    assert graph == yaml.safe_load(GOLDEN.read_text())


def test_every_step_is_there_and_waits_for_what_it_needs(graph: dict) -> None:
    tasks = graph["root"]["dag"]["tasks"]
    assert set(tasks) == set(STEPS)
    before = {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()}
    assert "validate" in before["split"]
    assert "gate" in before["publish"]
    assert "publish" in before["register"]


def test_nothing_is_installed_when_a_task_runs(graph: dict) -> None:
    for executor in graph["deploymentSpec"]["executors"].values():
        container = executor["container"]
        assert "pip install" not in " ".join(container["command"])
        assert container["image"].startswith("titrate/train:")
        assert not container["image"].endswith(":latest")


def test_no_task_is_cached(graph: dict) -> None:
    for task in graph["root"]["dag"]["tasks"].values():
        assert not task["cachingOptions"].get("enableCache", False)


def test_every_parameter_is_described(graph: dict) -> None:
    for parameter in graph["root"]["inputDefinitions"]["parameters"].values():
        assert parameter["description"]


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, dict]:
    """The graph and its platform's part."""
    path = tmp_path_factory.mktemp("ir") / "pills.yaml"
    write_ir("pills", path, PLATFORM, "{}")
    graph, platform = yaml.safe_load_all(path.read_text())
    return graph, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_on_a_platform_every_task_is_placed_as_agreed(placed: tuple[dict, dict]) -> None:
    graph, tasks = placed
    containers = {name: value["container"] for name, value in graph["deploymentSpec"]["executors"].items()}
    found = {name: {"pod": tasks[name], "container": _of_platform(containers[name])} for name in containers}
    own = {name: found.pop(name) for name in ("exec-train", "exec-publish")}
    alike = found["exec-ingest"]
    assert found == dict.fromkeys(found, alike)
    assert own | {"exec-ingest": alike} == yaml.safe_load(PLACED.read_text())


def _of_platform(container: dict) -> dict:
    return {name: value for name, value in container.items() if name not in {"args", "command"}}


def test_only_training_gets_gpus_and_only_publishing_the_keys(placed: tuple[dict, dict]) -> None:
    graph, tasks = placed
    executors = graph["deploymentSpec"]["executors"]
    asks = {name for name, value in executors.items() if "accelerator" in value["container"].get("resources", {})}
    assert asks == {"exec-train"}
    assert {name for name, task in tasks.items() if "secretAsVolume" in task} == {"exec-publish"}


def test_on_a_platform_a_lost_task_is_tried_again_and_a_run_is_named_by_kfp(placed: tuple[dict, dict]) -> None:
    tasks = placed[0]["root"]["dag"]["tasks"]
    assert {task["retryPolicy"]["maxRetryCount"] for task in tasks.values()} == {2}
    run = tasks["train"]["inputs"]["parameters"]["run"]["runtimeValue"]["constant"]
    assert run == "{{$.pipeline_job_resource_name}}"


def test_on_a_platform_that_trains_on_many_nodes_the_step_starts_a_job_and_needs_no_gpu(tmp_path: Path) -> None:
    path = tmp_path / "pills.yaml"
    platform = PLATFORM.model_copy(update={"training": Nodes(nodes=4, runtime="torch-spot")})
    write_ir("pills", path, platform, "{}")
    graph, pods = yaml.safe_load_all(path.read_text())
    containers = {name: value["container"] for name, value in graph["deploymentSpec"]["executors"].items()}
    tasks = pods["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert tasks["exec-train"] == tasks["exec-ingest"]
    assert _of_platform(containers["exec-train"]) == _of_platform(containers["exec-ingest"])
    told = graph["root"]["dag"]["tasks"]["train"]["inputs"]["parameters"]["cluster"]["runtimeValue"]["constant"]
    assert yaml.safe_load(told) == yaml.safe_load(DISTRIBUTED.read_text())
    assert Distributed.from_json(told, "cluster").processes == 2, "one for each GPU"


def test_unknown_workload_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'pills'"):
        write_ir("pils", tmp_path / "x.yaml")
