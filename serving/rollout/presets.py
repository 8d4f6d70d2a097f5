"""The usual rollouts (X13: blue-green, 10/50/100 and canary are one controller with different steps)."""

from core.errors import UserError, nearest
from core.slo import Slo
from serving.rollout.metrics import Agreement, Compared, Slice, of_slo
from serving.rollout.spec import Check, RolloutSpec, Step


def _weights(*weights: int) -> tuple[Step, ...]:
    return tuple(Step(weight=weight, bake_seconds=300) for weight in weights)


STEPS: dict[str, tuple[Step, ...]] = {
    "canary": (Step(shadow=10), *_weights(5, 10, 25, 50, 100)),
    "blue_green": (Step(shadow=100, bake_seconds=300), *_weights(100)),  # 0 -> 100, stable kept to switch back (L02)
    "ten_fifty_hundred": _weights(10, 50, 100),  # the old release is removed after validation (L03)
    "retrained": (Step(shadow=10), *_weights(5, 10, 25, 50, 100)),
    "shadow_only": (Step(shadow=100, bake_seconds=3600, min_requests=1000),),
}
RETRAINED = "retrained"
"""For a release that learned a changed world: it is meant to answer otherwise than stable, so neither agreement nor the
mix of answers nor drift by arm is compared; errors, time and labelled accuracy are."""
CHECKS = (Check(name="warm-up", kind="warm_up"), Check(name="smoke", kind="smoke"))


def preset(
    name: str,
    *,
    workload: str,
    stable: str,
    candidate: str,
    slo: Slo,
    classes: tuple[str, ...] = (),
    labels: bool = True,
    pairs: bool = True,
) -> RolloutSpec:
    """A complete rollout; with `classes`, accuracy is guarded class by class and the prediction mix is judged.

    `labels` False: accuracy is watched but promotion does not wait for it, because no labels come in time.
    `pairs` False: nobody compares mirrored answers with stable's, so mirroring does not wait for them.
    Raises UserError for an unknown name.
    """
    if name not in STEPS:
        raise UserError(f"no preset {name!r}; {nearest(name, STEPS)}")
    metrics = tuple(metric for metric in of_slo(slo, classes) if pairs or not isinstance(metric, Agreement))
    if name == RETRAINED:
        metrics = tuple(metric for metric in metrics if isinstance(metric, Compared))
    if not labels:
        unseen = {"guard": True}
        metrics = tuple(
            m.model_copy(update=unseen) if isinstance(m, Compared) and m.coverage is not None else m for m in metrics
        )
    return RolloutSpec(
        workload=workload,
        stable=stable,
        candidate=candidate,
        steps=STEPS[name],
        metrics=metrics,
        slices=(Slice(metric="accuracy", groups=classes, margin=0.1),) if classes else (),
        slow_ms=slo.latency.p95_ms,
        checks=CHECKS,
        retire_stable=name == "ten_fifty_hundred",
    )
