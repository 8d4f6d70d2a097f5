import pytest
import torch

from components.train.job import Job
from components.train.loop import Training
from components.train.processes import Interruption, team
from core.objects import Store
from tests.pictures import write_dataset
from workloads.pills.recipes import resnet18


def small(**train):
    """The default recipe on 32-pixel images, short."""
    config = resnet18()
    changes = {"images": 200, "min_epochs": 3, "max_epochs": 3, "precision": "fp32", **train}
    return config.model_copy(update={"train": config.train.model_copy(update=changes)})


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads on a busy machine wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A dataset of 168 training rows (`data`) and its store (`objects`)."""
    folder = tmp_path_factory.mktemp("source")
    write_dataset(folder / "data", Store(str(folder / "objects")))
    return folder


@pytest.fixture
def job(source, tmp_path):
    """A function that makes the job of a configuration; jobs of one name continue each other."""

    def job(config, name="work"):
        (tmp_path / name).mkdir(exist_ok=True)
        return Job(
            config=config.model_dump_json(),
            workload="pills",
            dataset=str(source / "data"),
            store=Store(str(source / "objects")).uri,
            work=str(tmp_path / name),
            cache=str(source / "cache"),
            out=str(tmp_path / "out"),
            code="c",
            environment="e",
        )

    return job


class StopAt(Interruption):
    """Asks to stop when it is asked for the n-th time."""

    def __init__(self, n):
        self.looks, self.n = 0, n

    @property
    def asked(self):
        self.looks += 1
        return self.looks == self.n


@pytest.fixture
def run(job):
    """A function that trains in this process and returns (training, state)."""

    def run(config, name="work", interruption=None):
        with team() as us:
            training = Training(job(config, name), us, interruption or Interruption(), None)
            return training, training.run()

    return run
