"""Workflows call make targets that exist, and nothing else; the lists of parts are those of the locks."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
SECRET = re.compile(r"printf '%s' \"\$CLUSTER\" > ")
"""The one line that is no target: a cluster's credentials from the environment to a file."""


def _commands(workflow: Path) -> list[str]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job.get("steps", ()) if "run" in step]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_make_targets_alone(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for command in _commands(workflow):
        if SECRET.match(command):
            continue
        first, *words = command.split()
        called = {
            word for word in words if "=" not in word and "{{" not in word and word not in ("}}", "vars.STAGING_URL")
        }
        assert first == "make" and called and called <= targets, command


def test_the_list_of_parts_of_an_image_is_its_lock(tmp_path: Path) -> None:
    subprocess.run(["make", "-o", ".venv/.ready", "sbom", "ROLES=serve"], cwd=ROOT, check=True, capture_output=True)
    listed = json.loads((ROOT / "build" / "sbom" / "serve.cdx.json").read_text())["components"]
    locked = re.findall(r"^([\w.-]+)(?:\[.*\])?==(\S+)", (ROOT / "images" / "serve.lock").read_text(), re.M)
    assert sorted((part["name"], part["version"]) for part in listed) == sorted(locked)
    assert not {name for name, _ in locked} & {"ray", "kfp", "mlflow"}
