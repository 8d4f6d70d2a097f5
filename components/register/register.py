"""A published release becomes a version of the registry, and the candidate of its workload."""

from components.publish.publish import PublishedRelease
from components.register.registry import Registered, Registry


def register(release: PublishedRelease, registry: Registry, run: str) -> Registered:
    """The version of `release`, with the alias `candidate`; registering twice gives the same version.

    `run` names the run that made it.
    """
    tags = {
        "run": run,
        "dataset": release.dataset,
        "synthetic": str(release.synthetic).lower(),
        "accuracy": f"{release.accuracy:.4f}",
        "precision": release.precision,
    }
    return registry.register(release.workload, release.digest, release.uri, release.mlflow_run or None, tags)
