import pytest
import torch
from torch import nn

from components.train.job import EpochReport, Watch
from components.train.watch import Watcher, latency_ms


def told(path):
    return [EpochReport.model_validate_json(line) for line in path.read_text().splitlines()]


@pytest.fixture
def network():
    """Two layers with a norm, in training mode."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.LazyLinear(4))


def test_each_epoch_is_a_line_and_the_network_is_measured_once(network, tmp_path):
    watcher = Watcher(Watch(file=str(tmp_path / "epochs")))
    images = torch.zeros(5, 3, 16, 16)
    network(images)
    for epoch, score in enumerate((0.5, 0.75), 1):
        watcher.tell(epoch, 2, score, network, images)
    first, second = told(tmp_path / "epochs")
    assert (first.epoch, first.score, second.epoch, second.score) == (1, 0.5, 2, 0.75)
    assert first.latency_ms == second.latency_ms
    assert first.latency_ms > 0


def test_networks_that_differ_in_weights_alone_have_one_name_and_other_inputs_another(network, tmp_path):
    network(torch.zeros(2, 3, 16, 16))
    for _ in range(3):
        with torch.no_grad():
            network[0].weight.mul_(2)
        Watcher(Watch(file=str(tmp_path / "same"))).tell(1, 1, 0.5, network, torch.zeros(2, 3, 16, 16))
    names = {report.network for report in told(tmp_path / "same")}
    wide = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2))
    for side in (16, 32):
        Watcher(Watch(file=str(tmp_path / "wide"))).tell(1, 1, 0.5, wide, torch.zeros(1, 3, side, side))
    others = {report.network for report in told(tmp_path / "wide")}
    assert len(names) == 1
    assert len(others) == 2
    assert not names & others


def test_measuring_changes_neither_the_network_nor_the_threads(network):
    images = torch.rand(4, 3, 16, 16)
    network(images)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    threads = torch.get_num_threads()
    latency_ms(network, images[:1])
    assert network.training
    assert torch.get_num_threads() == threads
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_without_rows_that_select_there_is_no_latency(network, tmp_path):
    Watcher(Watch(file=str(tmp_path / "epochs"))).tell(1, 2, None, network, None)
    assert told(tmp_path / "epochs")[0].latency_ms is None
