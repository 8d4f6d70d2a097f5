"""From what the user typed (a recipe, a file, single values) to one complete run configuration."""

from pathlib import Path
from typing import Any

import yaml

from core.config import Config
from core.errors import UserError, nearest
from workloads.contract import load


def configuration(workload: str, recipe: str | None, file: str | None, changes: tuple[str, ...]) -> Config:
    """The configuration to run; raises UserError that names the nearest recipe or key."""
    recipes = load(workload).recipes.recipes()
    if recipe and file:
        raise UserError("--recipe and --config exclude each other: a configuration file is complete")
    if recipe and recipe not in recipes:
        raise UserError(f"unknown recipe {recipe!r} of {workload!r}; {nearest(recipe, recipes)}")
    base = recipes[recipe or next(iter(recipes))]()
    if file:
        base = type(base).from_file(Path(file))
    return changed(base, changes) if changes else base


def changed(base: Config, changes: tuple[str, ...]) -> Config:
    """`base` with values such as `train.epochs=5` (YAML scalars) put in; raises UserError for an unknown key."""
    values = base.model_dump(mode="json")
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise UserError(f"--set {change!r}: write KEY=VALUE, for example train.epochs=5")
        _put(values, key, yaml.safe_load(text))
    return type(base).from_json(_dump(values), "--set")


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *folders, last = key.split(".")
    place = values
    for name in folders:
        if not isinstance(place.get(name), dict):
            raise UserError(f"unknown key {key!r}; {nearest(name, place)}")
        place = place[name]
    if last not in place:
        raise UserError(f"unknown key {key!r}; {nearest(last, place)}")
    place[last] = value


def _dump(values: dict[str, Any]) -> str:
    import json

    return json.dumps(values)
