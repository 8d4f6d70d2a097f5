"""The compiled graph is the agreed one, and plain enough for a cluster."""

from pathlib import Path

import pytest
import yaml

from core.errors import UserError
from pipelines.compile import write_ir

GOLDEN = Path(__file__).with_name("pills.yaml")
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


def test_unknown_workload_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'pills'"):
        write_ir("pils", tmp_path / "x.yaml")
