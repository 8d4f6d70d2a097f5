"""The KFP step `publish`."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Markdown, Model, Output

from core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def publish(
    store: str,
    keys: str,
    run: str,
    config: str,
    started_at: str,
    parts: Input[Dataset],
    trained: Input[Model],
    exported: Input[Model],
    evaluated: Input[Artifact],
    gated: Input[Artifact],
    release: Output[Model],
    card: Output[Markdown],
) -> None:
    """Seal, sign and upload the release; it is visible in the store only when it is complete.

    Args:
        store: URI of the object store.
        keys: Folder of the signing key pair; made when it is not there.
        run: Name of the run.
        config: The run configuration, JSON.
        started_at: Start of the run, ISO 8601; part of the lineage, so that a repeated step gives the same release.
        parts: The dataset with its sides.
        trained: The weights, and the MLflow run that logged them.
        exported: The Triton repository and the drift reference.
        evaluated: The metrics of the exported model.
        gated: The verdicts of the gate.
        release: Folder with published.json, and the release's address in its metadata.
        card: The release card.
    """
    from pathlib import Path

    from components.publish.publish import Made, publish
    from core.objects import Store
    from core.step import reporting_errors

    with reporting_errors("publish"):
        made = Made(Path(parts.path), Path(trained.path), Path(exported.path), Path(evaluated.path), Path(gated.path))
        published = publish(made, config, run, started_at, Path(keys), Store(store), Path(release.path))
        release.metadata.update(published.model_dump())
        Path(card.path).write_text((Path(release.path) / "release" / "card.md").read_text())
