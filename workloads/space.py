"""What a sweep tries, as plain data: for each key of the run configuration the values it may take.

`workloads/<name>/space.py` has the space of a workload; a user's own is a JSON file of the same shape. How it is
searched is tuning's business.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from core.config import Config, with_values
from core.errors import UserError
from workloads.configuration import RunConfig

Scalar = bool | int | float | str


class Uniform(Config):
    """Any number from `low` to `high`."""

    kind: Literal["uniform"] = "uniform"
    low: float
    high: float
    log: bool = False
    """Equally often in each decade instead: rates and decays."""
    midway: bool = False
    """It may change in the middle of a training, so that population-based training may move it."""

    def ends(self) -> tuple[Scalar, ...]:
        """The outermost values."""
        return self.low, self.high


class Integer(Config):
    """A whole number from `low` to `high`, both among them."""

    kind: Literal["integer"] = "integer"
    low: int
    high: int
    log: bool = False
    """Equally often in each decade instead."""
    midway: bool = False
    """As in Uniform."""

    def ends(self) -> tuple[Scalar, ...]:
        """The outermost values."""
        return self.low, self.high


class Choice(Config):
    """One of `options`."""

    kind: Literal["choice"] = "choice"
    options: tuple[Scalar, ...]
    midway: bool = False
    """As in Uniform."""

    def ends(self) -> tuple[Scalar, ...]:
        """All of them."""
        return self.options


Range = Annotated[Uniform | Integer | Choice, Field(discriminator="kind")]


class Space(Config):
    """The values to try."""

    keys: dict[str, Range]
    """By dotted key of the run configuration, such as `train.lr`."""

    def check(self, config: RunConfig) -> None:
        """Raises UserError for a key that `config` does not know, an empty range, and ends that it refuses."""
        if not self.keys:
            raise UserError("the search space is empty: nothing to try; name at least one key, for example train.lr")
        for key, span in self.keys.items():
            _check_range(key, span)
            for value in span.ends():
                with_values(config, {key: value}, f"search space, {key} = {value!r}")

    def without(self, keys: Iterable[str]) -> "Space":
        """The space without keys that the user has fixed."""
        fixed = set(keys)
        return Space(keys={key: span for key, span in self.keys.items() if key not in fixed})

    def differences(self, now: "Space") -> list[str]:
        """What `now` has otherwise, a line each: `train.lr: 0.01 to 0.5 (log) became 0.1 to 0.5 (log)`."""
        return list(_differences(self.keys, now.keys))


def _check_range(key: str, span: Uniform | Integer | Choice) -> None:
    if isinstance(span, Choice):
        if len(set(map(repr, span.options))) < 2:
            raise UserError(f"search space: {key} has the options {list(span.options)!r}; name at least two")
    elif span.low >= span.high:
        raise UserError(
            f"search space: the range of {key}, {span.low!r} to {span.high!r}, is empty: `low` must be below `high`"
        )
    elif span.log and span.low <= 0:
        raise UserError(f"search space: {key} is logarithmic and starts at {span.low!r}; it must start above 0")


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for key in sorted(before.keys() | now.keys()):
        if key not in now:
            yield f"{key} is gone"
        elif key not in before:
            yield f"{key} is new: {describe(now[key])}"
        elif before[key] != now[key]:
            yield f"{key}: {describe(before[key])} became {describe(now[key])}"


def describe(span: Uniform | Integer | Choice) -> str:
    """A range for people: `0.01 to 0.5 (log)`, `64 | 128`."""
    if isinstance(span, Choice):
        return " | ".join(json.dumps(option) for option in span.options)
    return f"{span.low:g} to {span.high:g}" + (" (log)" if span.log else "") + (" (midway)" if span.midway else "")
