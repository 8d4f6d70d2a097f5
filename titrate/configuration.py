"""From what the user typed (a recipe, a file, single values) to one complete run configuration."""

from pathlib import Path
from typing import Any

import yaml

from core.config import C, with_values
from core.errors import UserError, nearest
from workloads.configuration import RunConfig
from workloads.contract import load


def configuration(workload: str, recipe: str | None, file: str | None, changes: tuple[str, ...]) -> RunConfig:
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


def changed(base: C, changes: tuple[str, ...]) -> C:
    """`base` with values such as `train.images=5000` (YAML scalars) put in; raises UserError for an unknown key."""
    return with_values(base, dict(_pair(change) for change in changes), "--set")


def _pair(change: str) -> tuple[str, Any]:
    key, equals, text = change.partition("=")
    if not equals:
        raise UserError(f"--set {change!r}: write KEY=VALUE, for example train.images=5000")
    return key, yaml.safe_load(text)
