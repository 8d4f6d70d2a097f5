"""The KFP step `tune` compiles, and names an image that can run it."""

from pathlib import Path

import yaml
from kfp import compiler

from core.images import TRAIN_IMAGE
from tuning.component import tune

ROOT = Path(__file__).parents[3]


def test_the_step_compiles_with_its_inputs_and_outputs(tmp_path):
    compiler.Compiler().compile(tune, str(tmp_path / "tune.yaml"))
    described = yaml.safe_load((tmp_path / "tune.yaml").read_text())
    component = described["components"]["comp-tune"]
    assert set(component["outputDefinitions"]["artifacts"]) == {"best", "page", "metrics"}
    assert {"config", "trials", "budget"} <= set(component["inputDefinitions"]["parameters"])
    executor = described["deploymentSpec"]["executors"]["exec-tune"]["container"]
    assert executor["image"] == TRAIN_IMAGE


def test_the_image_of_the_step_carries_what_it_imports():
    lock = (ROOT / "images" / "train.lock").read_text()
    assert "\nray==" in lock
    assert "\noptuna==" in lock
    assert "COPY tuning " in (ROOT / "images" / "train.Dockerfile").read_text()
