"""The KFP step `export`."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def export(
    workload: str,
    store: str,
    config: str,
    parts: Input[Dataset],
    trained: Input[Model],
    exported: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Write what serves: ONNX, int8 where it agrees with fp32, calibration, the drift reference, a Triton repository.

    Args:
        workload: Name of the workload.
        store: URI of the object store that keeps the images.
        config: The run configuration, JSON.
        parts: The dataset with its sides.
        trained: The weights.
        exported: Folder with network.onnx, model.json, reference, export.json and the Triton repository.
        metrics: Agreement of int8 with fp32, sizes, temperature.
    """
    from pathlib import Path

    from components.export.export import export
    from core.objects import Store
    from core.step import reporting_errors
    from workloads.contract import load

    with reporting_errors("export"):
        settings = load(workload).configuration(config)
        report = export(Path(parts.path), Path(trained.path), settings, Store(store), Path(exported.path))
        exported.metadata["precision"] = report.precision.chosen
        metrics.log_metric("temperature", report.temperature)
        metrics.log_metric("fp32_bytes", report.precision.fp32_bytes)
        if report.precision.int8_bytes:
            metrics.log_metric("int8_bytes", report.precision.int8_bytes)
            metrics.log_metric("agreement", report.precision.agreement)
