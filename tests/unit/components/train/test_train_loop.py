import json
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from components.train.job import BEST, CHECKPOINT, CURVES, Curves
from components.train.loop import Plan, sgd
from components.train.train import train
from core.errors import PermanentError, TemporaryError, UserError
from core.objects import Store
from core.step import reporting_errors
from tests.unit.components.train.conftest import StopAt, small
from workloads.contract import load


def weights(training):
    return load_file(training.job.folder / BEST)


def test_it_learns(run):
    _, state = run(small())
    assert state.curves.epochs[-1].validation["score"] > 0.9
    assert state.curves.epochs[-1].loss < state.curves.steps[0].loss / 2


def test_the_same_seed_gives_the_same_curve_and_weights(run):
    first, one = run(small(), "one")
    second, two = run(small(), "two")
    assert one.curves.steps == two.curves.steps
    assert all(torch.equal(a, weights(second)[name]) for name, a in weights(first).items())


def test_another_seed_gives_another_curve(run):
    _, one = run(small(max_epochs=1, min_epochs=1), "one")
    _, two = run(small(max_epochs=1, min_epochs=1, seed=1), "two")
    assert one.curves.steps != two.curves.steps


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v3"])
def test_a_training_that_was_stopped_within_an_epoch_goes_on_along_the_same_curve(run, architecture):
    config = small(max_epochs=2, min_epochs=2)
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"architecture": architecture, "dropout": 0.3})}
    )
    whole, expected = run(config, "whole")
    with pytest.raises(TemporaryError, match="interrupted at step 11; the same command goes on"):
        run(config, "parts", StopAt(11))
    parts, found = run(config, "parts")
    assert parts.resumed_at == 11
    assert found.curves.steps == expected.curves.steps
    assert [row.model_dump(exclude={"seconds"}) for row in found.curves.epochs] == [
        row.model_dump(exclude={"seconds"}) for row in expected.curves.epochs
    ]
    assert all(torch.equal(value, weights(parts)[name]) for name, value in weights(whole).items())


def test_two_processes_learn_what_one_does_that_takes_their_batches_one_after_the_other(run, source, tmp_path):
    """Batch norms see the halves in both; sums of floats in another order differ by rounding."""
    length = {"max_epochs": 1, "min_epochs": 1, "batch": 16, "lr": 0.01}
    config = small(**length)
    train(source / "data", config, Store(str(source / "objects")), tmp_path / "work", tmp_path / "two", None, 2)
    two = Curves.from_file(tmp_path / "two" / CURVES)
    _, one = run(small(**length, accumulate=2), "one")
    _, whole = run(config, "whole")
    gathered, split, plain = ([row.loss for row in found.steps] for found in (one.curves, two, whole.curves))
    assert gathered == pytest.approx(split, rel=1e-3)
    assert plain != pytest.approx(split, rel=1e-3), "batch norms of the whole batch would be told apart"


def test_a_finished_training_is_not_repeated(run):
    _, before = run(small(max_epochs=1, min_epochs=1))
    training, after = run(small(max_epochs=1, min_epochs=1))
    assert training.resumed_at == training.plan.total
    assert after.curves == before.curves


def test_a_lost_loss_stops_with_its_step_and_the_last_checkpoint(run, monkeypatch):
    monkeypatch.setattr("components.train.loop.CHECKPOINT_SHARE", float("inf"))
    config = small()
    original = load("pills").model.loss
    seen = []

    def loss(outputs, targets, config):
        seen.append(1)
        return original(outputs, targets, config) * (math.nan if len(seen) == 12 else 1)

    monkeypatch.setattr("workloads.pills.model.loss", loss)
    with pytest.raises(
        UserError, match=r"not a number at step 12 \(epoch 2\); the last good checkpoint is .*train\.lr"
    ):
        run(config)
    training, _ = run(config)
    assert training.resumed_at == 8


def test_a_checkpoint_of_another_network_is_refused(run, job):
    config = small(max_epochs=1, min_epochs=1)
    run(config)
    other = config.model_copy(update={"model": config.model.model_copy(update={"stem_stride": 2})})
    with pytest.raises(PermanentError, match="checkpoint of another network; remove it"):
        run(other)


def test_a_full_disk_ends_the_training_by_name_and_leaves_the_previous_checkpoint(run, small_disk, tmp_path):
    """There is room for the best weights (45 MB) and the checkpoint (90 MB) of the first epoch, for no second draft."""
    place = small_disk("160m")
    (tmp_path / "work").symlink_to(place)
    full = r"(best|checkpoint)\.safetensors': No space left on device"
    with pytest.raises(UserError, match=full), reporting_errors("train"):
        run(small(max_epochs=2, min_epochs=2))
    assert sorted(path.name for path in place.iterdir()) == [BEST, CHECKPOINT]
    with safe_open(place / CHECKPOINT, framework="pt") as file:
        assert json.loads(file.metadata()["state"])["step"] == 8


def test_the_rate_rises_in_a_line_and_falls_to_zero():
    plan = Plan(epochs=10, steps=10, peak=1.0, warmup=0.2)
    rates = [plan.rate(step) for step in range(plan.total)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[19] == max(rates)
    assert sorted(rates[20:], reverse=True) == rates[20:]
    assert rates[-1] < 0.001


@pytest.mark.parametrize(("rows", "epochs", "steps", "peak"), [(100, 100, 8, 0.2 * 12 / 128), (10**5, 8, 781, 0.2)])
def test_small_data_trains_longer_and_large_data_at_least_a_few_epochs(rows, epochs, steps, peak):
    class Rows:
        pass

    config = small(images=24_000, min_epochs=8, max_epochs=100).train
    source = Rows()
    source.rows, source.batch = rows, config.batch_of(rows)
    plan = Plan.of(config, source)
    assert (plan.epochs, plan.steps) == (epochs, steps)
    assert plan.peak == pytest.approx(peak)


def test_norms_and_biases_do_not_decay():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    decayed, others = sgd(network, small().train).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(4, 3, 3, 3)]
    assert others["weight_decay"] == 0
    assert len(others["params"]) == 3
