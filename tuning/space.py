"""The plain search space (workloads/space.py) as Optuna's distributions and as Ray Tune's domains."""

from typing import TYPE_CHECKING, Any

from workloads.space import Choice, Integer, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def distributions(space: Space) -> "dict[str, BaseDistribution]":
    """For Optuna, by dotted key."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for key, span in space.keys.items():
        if isinstance(span, Choice):
            found[key] = CategoricalDistribution(span.options)
        elif isinstance(span, Integer):
            found[key] = IntDistribution(span.low, span.high, log=span.log)
        else:
            found[key] = FloatDistribution(span.low, span.high, log=span.log)
    return found


def domains(space: Space, midway: bool = False) -> dict[str, Any]:
    """For Ray Tune, by dotted key; `midway`: only what may change in the middle of a training."""
    from ray import tune

    found: dict[str, Any] = {}
    for key, span in space.keys.items():
        if midway and not span.midway:
            continue
        if isinstance(span, Choice):
            found[key] = tune.choice(list(span.options))
        elif isinstance(span, Integer):
            found[key] = (tune.lograndint if span.log else tune.randint)(span.low, span.high + 1)
        else:
            found[key] = (tune.loguniform if span.log else tune.uniform)(span.low, span.high)
    return found
