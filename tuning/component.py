"""The KFP step `tune`."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Metrics, Output

from core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def tune(
    workload: str,
    store: str,
    config: str,
    run: str,
    tracking: str,
    work: str,
    trials: int,
    budget: float,
    cluster: str,
    parts: Input[Dataset],
    best: Output[Artifact],
    page: Output[HTML],
    metrics: Output[Metrics],
) -> None:
    """Search around a run configuration for a better one; the same call goes on with what was interrupted.

    Args:
        workload: Name of the workload.
        store: URI of the object store that keeps the images.
        config: The run configuration to search around, JSON.
        run: Name of the sweep and of its MLflow run.
        tracking: MLflow's tracking URI.
        work: Folder that outlives the step, with checkpoints and what is known of the trials.
        trials: How many to run.
        budget: Seconds for all of them; 0: as long as it takes.
        cluster: The RayJob that does it (tuning/cluster.py: Spread, JSON); empty: the step itself.
        parts: The dataset with its sides.
        best: The best configuration, JSON: what `train` takes as `config`.
        page: The report for people.
        metrics: The best score, and the trials that finished.
    """
    from pathlib import Path

    from core.step import reporting_errors
    from tuning.step import tune

    with reporting_errors("tune"):
        outputs = (Path(best.path), Path(page.path))
        found = tune(
            workload, store, config, run, tracking, Path(work), trials, budget, Path(parts.path), *outputs, cluster
        )
        best.metadata.update({"sweep": found.id, "trial": found.best})
        for name, value in found.counts().items():
            metrics.log_metric(name, value)
