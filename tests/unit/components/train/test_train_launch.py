"""Real processes: torchrun, MLflow, signals."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open

from components.train.job import CHECKPOINT, CONFIG, CURVES, MODEL, Curves, Tracking, TrainResult
from components.train.train import key, processes, train
from core.errors import TemporaryError, UserError
from core.files import locked
from core.objects import Store
from tests.conftest import wait_until
from tests.unit.components.train.conftest import small

STARTER = """
import sys
from pathlib import Path
from components.train.train import train
from core.objects import Store
from workloads.contract import load
from core.errors import TitrateError

data, objects, work, out, config = sys.argv[1:]
try:
    train(Path(data), load("pills").configuration(config), Store(objects), Path(work), Path(out), None, 2)
except TitrateError as error:
    print(type(error).__name__, error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def start(source, tmp_path, config):
    """The Popen of a process that trains with two processes, and the file that says how far it is."""
    paths = [str(source / "data"), str(source / "objects"), str(tmp_path / "work"), str(tmp_path / "out")]
    progress = tmp_path / "progress.json"
    progress.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER, *paths, config.model_dump_json()],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4]), "TITRATE_PROGRESS_FILE": str(progress)},
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, progress


def test_two_processes_train_are_tracked_and_leave_the_result(source, tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    config = small(max_epochs=2, min_epochs=2, batch=32)
    tracking = Tracking(uri=uri, experiment="pills", run="first")
    folders = (Store(str(source / "objects")), tmp_path / "work", tmp_path / "out")
    result = train(source / "data", config, *folders, tracking, 2)
    assert (result.processes, result.epochs, result.steps, result.resumed_at) == (2, 2, 16, 0)
    assert result == TrainResult.from_file(tmp_path / "out" / "train.json")
    assert (tmp_path / "out" / MODEL).stat().st_size > 40_000_000
    assert type(config).from_file(tmp_path / "out" / CONFIG) == config
    curves = Curves.from_file(tmp_path / "out" / CURVES)
    assert [row.step for row in curves.steps] == list(range(1, 17))
    check_tracked(uri, result, config, curves)


def check_tracked(uri, result, config, curves):
    script = (
        "import json, sys, mlflow\n"
        "client = mlflow.MlflowClient(sys.argv[1])\n"
        "run = client.get_run(sys.argv[2])\n"
        "losses = [m.value for m in client.get_metric_history(sys.argv[2], 'loss')]\n"
        "facts = [run.info.status, run.info.run_name, run.data.params, run.data.tags, run.data.metrics, losses]\n"
        "print(json.dumps(facts))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, uri, result.mlflow_run], capture_output=True, text=True, check=True
    )
    status, name, params, tags, metrics, losses = json.loads(done.stdout)
    assert (status, name) == ("FINISHED", "first")
    assert params["train.batch"] == "32"
    assert params["model.architecture"] == "resnet18"
    assert tags["dataset"] == result.dataset
    assert tags["config"] == config.content_digest()
    assert (tags["code"], tags["environment"], tags["seed"]) == (result.code, result.environment, "0")
    assert metrics["validation_score"] == curves.epochs[-1].validation["score"]
    assert losses == [row.loss for row in curves.steps]


def test_an_ended_training_leaves_no_process_and_the_same_call_goes_on(source, tmp_path):
    config = small(max_epochs=60, min_epochs=60)
    process, progress = start(source, tmp_path, config)
    wait_until(progress.exists, 120)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == TemporaryError.exit_code, errors
    assert gone(children)
    with safe_open(tmp_path / "work" / "train" / key(source / "data", config) / CHECKPOINT, "pt") as file:
        step = json.loads(file.metadata()["state"])["step"]
    process, progress = start(source, tmp_path, config)
    wait_until(progress.exists, 120)
    assert json.loads(progress.read_text())["done"] > step > 0
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 3  # torchrun and two processes
    process.kill()
    process.communicate()
    wait_until(lambda: gone(children))


def test_a_process_that_is_killed_is_missed_and_the_result_is_that_of_an_undisturbed_training(source, tmp_path, capfd):
    config = small(max_epochs=16, min_epochs=16)
    stores = Store(str(source / "objects"))
    undisturbed = train(source / "data", config, stores, tmp_path / "whole", tmp_path / "one", None, 2)
    killed = threading.Thread(target=kill_one_process_in_the_third_epoch, args=(tmp_path / "parts",))
    killed.start()
    disturbed = train(source / "data", config, stores, tmp_path / "parts", tmp_path / "two", None, 2)
    killed.join()
    assert disturbed.resumed_at > 0 and "it starts again from its last checkpoint" in capfd.readouterr().err
    one, two = (Curves.from_file(tmp_path / name / CURVES) for name in ("one", "two"))
    assert one.steps == two.steps and undisturbed.score == disturbed.score


def kill_one_process_in_the_third_epoch(work):
    """The second of the two, so that the first one has to notice."""

    def checkpoint():
        return next(work.glob(f"train/*/{CHECKPOINT}"), None)

    wait_until(checkpoint, 120)
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # one that has just ended, or whose end nobody has asked for
            if child.environ().get("RANK") == "1" and "components.train" in child.cmdline():
                child.kill()


def gone(processes):
    """Whether none of them runs any more."""
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_the_error_of_a_process_reaches_the_caller(source, tmp_path):
    config = small()
    config = config.model_copy(update={"model": config.model.model_copy(update={"weights": "/nowhere.safetensors"})})
    folders = (Store(str(source / "objects")), tmp_path / "work", tmp_path / "out")
    with pytest.raises(UserError, match=r"model\.weights = '/nowhere.safetensors': no such file"):
        train(source / "data", config, *folders, None, 1)
    assert not (tmp_path / "out").exists()


def test_the_same_training_cannot_run_twice_at_once(source, tmp_path):
    folders = (Store(str(source / "objects")), tmp_path / "work", tmp_path / "out")
    folder = tmp_path / "work" / "train" / key(source / "data", small())
    with locked(folder / "lock", "busy"), pytest.raises(UserError, match=rf"already running .*process {os.getpid()}"):
        train(source / "data", small(), *folders, None, 1)


def test_a_training_is_named_by_its_data_and_what_its_weights_follow_from(source):
    config = small()
    exported = config.model_copy(update={"export": config.export.model_copy(update={"int8": False})})
    assert key(source / "data", config) == key(source / "data", exported)
    assert key(source / "data", config) != key(source / "data", small(seed=1))


@pytest.mark.parametrize(
    ("wanted", "batch", "found"), [(None, 1024, None), (8, 128, 8), (8, 32, 4), (8, 4, 1), (1, 64, 1)]
)
def test_no_process_is_started_for_a_handful_of_images(wanted, batch, found):
    assert processes(wanted, batch) == (found or len(os.sched_getaffinity(0)))
