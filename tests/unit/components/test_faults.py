"""kill -9 and full disks in the steps after training, where they write.

Half a release is never seen, and the same call goes on. Ingest and train have tests of their own for that, and
tests/integration/test_spine.py kills the whole command.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from core.errors import TitrateError
from core.step import reporting_errors
from tests.unit.components.steps import Steps

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, when it is imported


@pytest.fixture(scope="module")
def root(trained, tmp_path_factory):
    """A folder in which no step after training was done yet."""
    folder = tmp_path_factory.mktemp("kills")
    for name in ("data", "trained", "objects"):
        shutil.copytree(trained / name, folder / name)
    return folder


def killed(root, step, pattern):
    """Run the step until it kills itself; no process of it is left."""
    line = [sys.executable, "-m", "tests.unit.components.steps", step, str(root), pattern]
    started = set()
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                started |= set(psutil.Process(process.pid).children(recursive=True))
            time.sleep(0.05)
        assert process.returncode == -signal.SIGKILL, process.stderr.read()
    assert psutil.wait_procs(started, timeout=20)[1] == []
    return started


def done(root, step):
    """The same step again, in this process."""
    return getattr(Steps(root), step)()


def test_export(root):
    killed(root, "export", "/exported$")
    assert not (root / "exported").exists()
    assert done(root, "export").precision.chosen == "fp32"
    assert (root / "exported" / "repository" / "pills" / "config.pbtxt").exists()


def test_evaluate(root):
    assert killed(root, "evaluate", "while Triton serves"), "a server ran"
    assert not (root / "evaluated").exists()
    killed(root, "evaluate", r"/evaluated$")
    assert not (root / "evaluated").exists()
    assert done(root, "evaluate").rows == 48


def test_gate(root):
    killed(root, "gate", r"/verdicts\.json$")
    assert not (root / "gated" / "verdicts.json").exists()
    done(root, "gate")


@pytest.mark.parametrize(
    "pattern",
    [
        r"/signing\.pem$",
        r"/published/release$",
        r"objects/datasets/\w+/COMPLETE",
        r"objects/releases/\w+/card\.md",
        r"objects/releases/\w+/COMPLETE",
        r"/published\.json$",
    ],
)
def test_publish_shows_no_release_before_it_is_complete(root, pattern):
    store = Steps(root).store
    assert store.names("releases") == []
    killed(root, "publish", pattern)
    complete = pattern == r"/published\.json$"
    assert len(store.names("releases")) == int(complete)
    assert not (root / "published" / "published.json").exists()


def test_publish(root):
    published = done(root, "publish")
    assert Steps(root).store.names("releases") == [published.digest]
    again = done(root, "publish")
    assert again == published


@pytest.mark.parametrize("point", ["before the version", "before the alias"])
def test_register_names_no_candidate_before_the_version_is_there(root, point):
    killed(root, "register", point)
    registry = Steps(root).registry
    assert registry.get("pills", "candidate") is None
    assert len(registry.releases("pills")) == int(point == "before the alias")


def test_register(root):
    candidate = done(root, "register")
    assert (candidate.version, candidate.aliases) == (1, ("candidate",))
    assert [found.digest for found in Steps(root).registry.releases("pills")] == [candidate.digest]


def refused(steps, step):
    """The error that the step ends with, as its process would report it."""
    with pytest.raises(TitrateError) as found, reporting_errors(step):
        getattr(steps, step)()
    return str(found.value)


@pytest.mark.parametrize("step", ["export", "evaluate"])
def test_what_a_step_cannot_write_is_named_and_no_draft_is_left(root, small_disk, step):
    place = small_disk("64k")
    assert "No space left on device" in refused(Steps(root, out=place), step)
    assert list(place.iterdir()) == []


def test_a_store_that_is_full_shows_no_release(root, small_disk, tmp_path):
    place = small_disk("1m")
    steps = Steps(root, out=tmp_path / "out", objects=place)
    assert "No space left on device" in refused(steps, "publish")
    assert steps.store.names("releases") == []
    assert not (tmp_path / "out" / "published.json").exists()


def test_a_registry_that_is_full_is_named(root, small_disk):
    assert "mlflow.db is full; make room" in refused(Steps(root, out=small_disk("64k")), "register")
