import contextlib
import os
import shutil
import subprocess

import pytest
import torch

from components.export.export import export
from components.train.job import CONFIG, Job
from components.train.loop import Training
from components.train.processes import Interruption, team
from components.train.result import write
from core.objects import Store
from tests.pictures import write_dataset
from workloads.pills.recipes import resnet18


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with `data` (dataset), `objects` (store) and `trained`: the default recipe, six epochs at 32 pixels."""
    folder = tmp_path_factory.mktemp("trained")
    store = Store(str(folder / "objects"))
    write_dataset(folder / "data", store, rows=160)
    config = resnet18()
    config = config.model_copy(update={"train": config.train.model_copy(update={"min_epochs": 6, "max_epochs": 6})})
    (folder / "work").mkdir()
    places = {name: str(folder / name) for name in ("work", "cache")} | {"dataset": str(folder / "data")}
    job = Job(
        config=config.model_dump_json(),
        workload="pills",
        store=store.uri,
        out=str(folder / "trained"),
        code="c",
        environment="e",
        **places,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with team() as us:
        training = Training(job, us, Interruption(), None)
        write(training, training.run(), "")
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="session")
def config(trained):
    """The configuration of `trained`."""
    return type(resnet18()).from_file(trained / "trained" / CONFIG)


@pytest.fixture(scope="session")
def exported(trained, config):
    """`trained`, exported: the folder `exported` beside it."""
    export(trained / "data", trained / "trained", config, Store(str(trained / "objects")), trained / "exported")
    return trained / "exported"


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a file system of a size such as `192k`; a printed skip where none can be mounted."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("a small tmpfs needs root")
    with contextlib.ExitStack() as mounted:

        def small(size):
            place = tmp_path / "small"
            place.mkdir()
            line = [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
            made = subprocess.run(line, check=False, capture_output=True)
            if made.returncode:
                pytest.skip(f"cannot mount a tmpfs: {made.stderr.decode().strip()}")
            mounted.callback(subprocess.run, ["umount", "--lazy", str(place)], check=True)
            return place

        yield small
