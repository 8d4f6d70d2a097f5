"""`helm uninstall` with a rollout that has not ended: it is ended first, then all goes but what is named to stay."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cluster.conftest import Cluster
from tests.cluster.test_rollouts import Rollout

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not on the PATH"),
]
CHART = Path(__file__).parents[2] / "charts" / "titrate"
NAMESPACE = "titrate-removed"


def helm(*words):
    done = subprocess.run(["helm", *words, "-n", NAMESPACE], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.fixture
def installed():
    """A namespace with the operator alone, installed by the chart."""
    repository, _, tag = os.environ["TITRATE_SERVICES_IMAGE"].rpartition(":")
    image = {"images": {"services": {"repository": repository, "tag": tag}}}
    values = ("-f", str(CHART / "ci" / "minimal-values.yaml"), "--set-json", f"images={json.dumps(image['images'])}")
    try:
        helm("install", "titrate", str(CHART), "--create-namespace", *values, "--wait", "--timeout=120s")
        yield Cluster(NAMESPACE)
    finally:
        subprocess.run(["kubectl", "delete", "namespace", NAMESPACE, "--timeout=60s"], capture_output=True, check=False)


def test_uninstalling_ends_rollouts_and_leaves_what_is_named(installed):
    waits = Rollout(installed, "waits", "f" * 64)
    assert installed.get("modelrollout", waits.name)["metadata"]["finalizers"]
    helm("uninstall", "titrate", "--timeout=120s")
    assert not installed.kubectl("get", "modelrollouts", "-o", "name")
    left = installed.kubectl(
        "get", "all,persistentvolumeclaims,roles,rolebindings,serviceaccounts", "-o", "name"
    ).split()
    ours = {name for name in left if "titrate" in name and not name.startswith("pod/")}
    assert ours == {"persistentvolumeclaim/titrate-rollouts"}
