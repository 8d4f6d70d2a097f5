"""From the candidate's weight to the shares of all arms."""

from serving.rollout.observations import Weights
from serving.rollout.spec import RolloutSpec


def shares(spec: RolloutSpec, weight: int) -> Weights:
    """Shares at a candidate's weight: a baseline gets as much as the candidate, but at most half of what is left."""
    baseline = min(weight, (100 - weight) // 2) if spec.baseline else 0
    return Weights(stable=100 - weight - baseline, candidate=weight, baseline=baseline)
