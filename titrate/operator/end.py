"""Ends every rollout of the operator's namespaces: `python -m titrate.operator.end`, helm's pre-delete hook.

The operator still runs then: what a deleted ModelRollout has begun goes back to stable before its finalizer is removed.
"""

import sys
import time
from collections.abc import Callable, Sequence

from core.errors import TitrateError
from serving.rollout.cluster.kube import Kind, Kube
from titrate.operator.credentials import connected, credentials
from titrate.operator.resource import GROUP, PLURAL, VERSION
from titrate.operator.wiring import Settings

MODEL_ROLLOUTS = Kind(f"{GROUP}/{VERSION}", PLURAL)
WITHIN = 240.0
"""Seconds; a rollback takes a few looks, and a look some seconds."""
PAUSE = 2.0


def end(kube: Kube, namespaces: Sequence[str], sleep: Callable[[float], None] = time.sleep) -> None:
    """Delete the rollouts and wait until each is gone. Raises TitrateError, naming those that stay."""
    for _ in range(int(WITHIN / PAUSE)):
        left = [
            (space, one["metadata"]["name"]) for space in namespaces for one in kube.select(MODEL_ROLLOUTS, space, {})
        ]
        if not left:
            return
        for space, name in left:
            kube.delete(MODEL_ROLLOUTS, space, name)
        sleep(PAUSE)
    names = ", ".join(f"{space}/{name}" for space, name in left)
    raise TitrateError(
        f"these rollouts did not end in {WITHIN:g} s: {names}; does the operator run? Without it nothing takes their "
        "candidates away: see docs/deploy.md"
    )


def main() -> None:
    """Exit 1 with the reason when one stays: helm then removes nothing."""
    access = credentials()
    try:
        end(connected(access), Settings.of_environment().namespaces or (access.default_namespace or "default",))
    except TitrateError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
