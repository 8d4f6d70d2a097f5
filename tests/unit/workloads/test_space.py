import pytest

from core.errors import UserError
from workloads.contract import load, workloads
from workloads.pills.recipes import demo, resnet18
from workloads.space import Choice, Integer, Space, Uniform


@pytest.mark.parametrize("workload", workloads())
def test_the_space_of_every_recipe_names_keys_and_values_that_its_configuration_takes(workload):
    for recipe in load(workload).recipes.recipes().values():
        load(workload).space.space(recipe()).check(recipe())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train.lrr": Uniform(low=0.1, high=1)}, "unknown key 'train.lrr'; did you mean 'lr'"),
        ({"trian.lr": Uniform(low=0.1, high=1)}, "unknown key 'trian.lr'; did you mean 'train'"),
        ({"train.lr": Uniform(low=1, high=0.1)}, "the range of train.lr, 1.0 to 0.1, is empty"),
        ({"train.batch": Integer(low=8, high=8)}, "the range of train.batch, 8 to 8, is empty"),
        ({"train.lr": Uniform(low=0, high=1, log=True)}, "train.lr is logarithmic and starts at 0.0"),
        ({"train.batch": Choice(options=(64, 64))}, "train.batch has the options"),
        ({"train.momentum": Uniform(low=0.5, high=1.5)}, "search space, train.momentum = 1.5"),
        ({"model.architecture": Choice(options=("resnet18", "resnet19"))}, "model.architecture = 'resnet19'"),
        ({}, "the search space is empty"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_by_name(keys, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        Space(keys=keys).check(resnet18())


def test_a_change_of_the_space_is_named():
    before = Space(keys={"train.lr": Uniform(low=0.1, high=1, log=True), "train.batch": Choice(options=(8, 16))})
    now = Space(keys={"train.lr": Uniform(low=0.1, high=2, log=True), "train.warmup": Uniform(low=0, high=0.5)})
    assert before.differences(now) == [
        "train.batch is gone",
        "train.lr: 0.1 to 1 (log) became 0.1 to 2 (log)",
        "train.warmup is new: 0 to 0.5",
    ]
    assert before.differences(before) == []


def test_a_space_survives_json():
    space = load("pills").space.space(resnet18())
    assert Space.from_json(space.model_dump_json(), "test") == space


def test_what_the_recipe_or_the_user_has_fixed_is_not_searched():
    assert "image_size" in load("pills").space.space(resnet18()).keys
    assert "image_size" not in load("pills").space.space(demo()).keys
    assert "train.lr" not in load("pills").space.space(demo()).without(["train.lr"]).keys
