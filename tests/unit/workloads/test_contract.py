import inspect
import json

import pytest

from core.errors import UserError
from workloads import contract
from workloads.contract import load, workloads

PROTOCOLS = {
    "recipes": contract.Recipes,
    "space": contract.SearchSpace,
    "preprocess": contract.Preprocess,
    "features": contract.Features,
    "loader": contract.Loader,
    "model": contract.Model,
    "metrics": contract.Metrics,
    "export": contract.Export,
}


def test_an_unknown_workload_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="unknown workload 'pilsl'; did you mean 'pills'"):
        load("pilsl")


@pytest.mark.parametrize("name", ["../pills", "", "pills/recipes", "contract"])
def test_only_folders_with_recipes_are_workloads(name):
    with pytest.raises(UserError, match="unknown workload"):
        load(name)


@pytest.mark.parametrize("workload", workloads())
@pytest.mark.parametrize("module", PROTOCOLS)
def test_every_workload_keeps_the_contract(workload, module):
    found = getattr(load(workload), module)
    for name, promised in vars(PROTOCOLS[module]).items():
        if name.startswith("_"):
            continue
        assert hasattr(found, name), f"{module}.{name} is missing"
        if inspect.isfunction(promised):
            wanted = list(inspect.signature(promised).parameters)[1:]
            assert list(inspect.signature(getattr(found, name)).parameters)[: len(wanted)] == wanted


@pytest.mark.parametrize("workload", workloads())
def test_every_recipe_is_a_complete_configuration_that_survives_json(workload):
    for name, recipe in load(workload).recipes.recipes().items():
        config = recipe()
        assert config.recipe == name
        assert load(workload).configuration(config.model_dump_json()) == config


def test_an_unknown_key_inside_a_section_is_refused_with_the_nearest_of_that_section():
    with pytest.raises(UserError, match=r"unknown key 'train\.image'; did you mean 'images'"):
        load("pills").configuration(json.dumps({"recipe": "resnet18", "train": {"image": 3}}))


@pytest.mark.parametrize(
    "change", [{"image_size": 4}, {"train": {"lr": 0}}, {"train": {"images": 0}}, {"augment": {"shift": 2}}]
)
def test_values_that_cannot_work_are_refused(change):
    with pytest.raises(UserError, match=r"Input should be (greater|less) than"):
        load("pills").configuration(json.dumps({"recipe": "resnet18", **change}))


def test_small_data_gets_a_smaller_batch_but_never_less_than_a_norm_needs():
    train = load("pills").recipes.recipes()["resnet18"]().train
    assert [train.batch_of(rows) for rows in (20, 140, 1024, 100_000)] == [8, 17, 128, 128]
