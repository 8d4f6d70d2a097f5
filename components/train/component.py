"""The KFP step `train`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def train(
    workload: str,
    store: str,
    config: str,
    run: str,
    tracking: str,
    work: str,
    nproc: int,
    cluster: str,
    parts: Input[Dataset],
    trained: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Train the network; the same call continues what was interrupted.

    Args:
        workload: Name of the workload.
        store: URI of the object store that keeps the images.
        config: The run configuration, JSON.
        run: Name of the MLflow run.
        tracking: MLflow's tracking URI.
        work: Folder that outlives the step, with the checkpoints.
        nproc: Processes; 0: one per GPU, or one per core.
        cluster: The TrainJob that trains (components/train/cluster.py: Distributed, JSON); empty: the step itself.
        parts: The dataset with its sides.
        trained: Folder with model.safetensors, config.json, curves.json and train.json.
        metrics: The score that selected the weights, and the pace.
    """
    from pathlib import Path

    from components.train.cluster import train_where
    from components.train.job import Tracking
    from core.objects import Store
    from core.step import reporting_errors
    from workloads.contract import load

    with reporting_errors("train"):
        tracked = Tracking(uri=tracking, experiment=workload, run=run)
        settings = load(workload).configuration(config)
        folders = (Path(work), Path(trained.path))
        result = train_where(cluster, Path(parts.path), settings, Store(store), *folders, tracked, nproc or None)
        trained.metadata.update(result.model_dump())
        metrics.log_metric("images_per_second", result.images_per_second)
        if result.score is not None:
            metrics.log_metric("score", result.score)
