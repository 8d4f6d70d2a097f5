import pytest

from core.errors import UserError
from tuning.records import SWEEP, Journal, Sweep, Trial, interrupt
from tuning.sweep import same_sweep
from workloads.pills.recipes import resnet18
from workloads.space import Space, Uniform


def settings(folder, low=0.01, config=None, **changes):
    return Sweep(
        workload="pills",
        dataset=str(folder / "parts"),
        store=str(folder / "objects"),
        work=str(folder / "work"),
        config=(config or resnet18()).model_dump_json(),
        space=Space(keys={"train.lr": Uniform(low=low, high=1, log=True)}),
        **changes,
    )


def trial(number, state, rate=0.1):
    return Trial(number=number, values={"train.lr": rate}, state=state)


def test_a_sweep_that_searches_something_else_cannot_go_on_and_the_difference_is_named(tmp_path):
    (tmp_path / SWEEP).write_text(settings(tmp_path).model_dump_json())
    config = resnet18()
    config = config.model_copy(update={"train": config.train.model_copy(update={"images": 7})})
    with pytest.raises(UserError, match=r"train\.lr: 0\.01 to 1 \(log\) became 0\.02 to 1 \(log\)"):
        same_sweep(settings(tmp_path, low=0.02), tmp_path)
    with pytest.raises(UserError, match=r"train\.images was 24000 and is 7"):
        same_sweep(settings(tmp_path, config=config), tmp_path)
    with pytest.raises(UserError, match="pbt was False and is True"):
        same_sweep(settings(tmp_path, pbt=True), tmp_path)


def test_more_trials_cores_and_another_seed_are_the_same_sweep(tmp_path):
    (tmp_path / SWEEP).write_text(settings(tmp_path).model_dump_json())
    same_sweep(settings(tmp_path, trials=99, cpus=2, seed=5), tmp_path)


def test_the_journal_survives_its_writer(tmp_path):
    journal = Journal(tmp_path)
    for number, state in enumerate(("finished", "running", "failed"), 1):
        journal.write(trial(number, state, rate=number / 10))
    again = Journal(tmp_path)
    assert again.trials == journal.trials
    interrupt(again, again.in_state("running"))
    assert [one.number for one in Journal(tmp_path).in_state("interrupted")] == [2]


def test_an_interrupted_trial_keeps_its_number_when_its_values_start_again(tmp_path):
    journal = Journal(tmp_path)
    journal.write(trial(1, "finished", 0.1))
    journal.write(trial(2, "interrupted", 0.2))
    assert journal.number({"train.lr": 0.2}) == 2
    assert journal.number({"train.lr": 0.1}) == 3
    assert Journal(tmp_path / "new").number({"train.lr": 0.2}) == 1


def test_a_trial_is_the_base_with_its_values(tmp_path):
    config = settings(tmp_path).with_values({"train.lr": 0.25})
    assert config.train.lr == 0.25
    assert config.train.model_copy(update={"lr": resnet18().train.lr}) == resnet18().train
