"""The way of the data for pills: from a folder of images to a signed candidate in the registry, as a Kubeflow graph.

The laptop (pipelines/local.py) and Kubeflow run this very graph. Each task is one step of components/; what it does is
in the file of its name there. The rollout of the candidate is not part of it: that takes as long as the evidence needs.
"""

from kfp import dsl

from components.evaluate.component import evaluate
from components.export.component import export
from components.gate.component import gate
from components.ingest.component import ingest
from components.publish.component import publish
from components.register.component import register
from components.split.component import split
from components.train.component import train
from components.validate.component import validate

WORKLOAD = "pills"


@dsl.pipeline(name=WORKLOAD, description="A folder of images becomes a signed, registered candidate.")
def pipeline(
    source: str,
    store: str,
    config: str,
    run: str,
    tracking: str,
    keys: str,
    work: str,
    cache: str,
    started_at: str,
    nproc: int = 0,
    cluster: str = "",
) -> None:
    """Ingest, validate, split, train, export, evaluate, gate, publish, register.

    Args:
        source: Folder of class-named sub-folders, or a CSV or JSONL manifest.
        store: URI of the object store for images and releases (file:// or s3://).
        config: The run configuration, JSON; `titrate run` makes it from a recipe.
        run: Name of the run; labels everything it creates.
        tracking: MLflow's tracking URI.
        keys: Folder of the signing key pair.
        work: Folder that outlives a task: an interrupted training goes on from there.
        cache: Folder for what can be made again, such as decoded images.
        started_at: Start of the run, ISO 8601; part of the lineage.
        nproc: Training processes; 0: one per core or GPU.
        cluster: What trains on many nodes, JSON; the platform file's section `training` makes it.
    """
    ingested = ingest(workload=WORKLOAD, source=source, store=store, work=work)
    validated = validate(store=store, good_share=0.90, min_images=5, dataset=ingested.outputs["dataset"])
    divided = split(dataset=ingested.outputs["dataset"]).after(validated)
    parts = divided.outputs["parts"]
    trained = train(
        workload=WORKLOAD,
        store=store,
        config=config,
        run=run,
        tracking=tracking,
        work=work,
        nproc=nproc,
        cluster=cluster,
        parts=parts,
    )
    exported = export(workload=WORKLOAD, store=store, config=config, parts=parts, trained=trained.outputs["trained"])
    evaluated = evaluate(store=store, cache=cache, split="test", parts=parts, exported=exported.outputs["exported"])
    gated = gate(workload=WORKLOAD, evaluated=evaluated.outputs["evaluated"])
    published = publish(
        store=store,
        keys=keys,
        run=run,
        config=config,
        started_at=started_at,
        parts=parts,
        trained=trained.outputs["trained"],
        exported=exported.outputs["exported"],
        evaluated=evaluated.outputs["evaluated"],
        gated=gated.outputs["gated"],
    )
    registered = register(tracking=tracking, run=run, release=published.outputs["release"])
    # No cache: the steps find earlier work themselves (docs/decisions/0003-no-kfp-cache.md).
    for task in (ingested, validated, divided, trained, exported, evaluated, gated, published, registered):
        task.set_caching_options(False)
