"""The KFP step `register`."""

from kfp import dsl
from kfp.dsl import Input, Model

from core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def register(tracking: str, run: str, release: Input[Model]) -> str:
    """Make the published release a version of the registry, and the candidate of its workload; returns its digest.

    Args:
        tracking: MLflow's tracking URI.
        run: Name of the run, shown beside the version.
        release: What `publish` wrote.
    """
    from pathlib import Path

    from components.publish.publish import PublishedRelease
    from components.register.register import register
    from components.register.registry import Registry
    from core.step import reporting_errors

    with reporting_errors("register"):
        published = PublishedRelease.from_file(Path(release.path, "published.json"))
        return register(published, Registry(tracking), run).digest
