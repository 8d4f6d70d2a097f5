"""From a trained network to what serves: ONNX, int8 where it agrees, calibration, the drift reference, a repository.

Only validation is read (and some training images, for the ranges of int8). All of its rows compare int8 with fp32; its
calibration part fits temperature and abstention and is the drift reference. Next: `components/evaluate`, which measures
the very network that is written here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from components.export.calibration import abstain_below, softmax, temperature
from components.export.choice import FP32, NETWORK, Choice, choose
from components.export.network import write_onnx
from components.export.report import ExportReport
from components.train.job import MODEL
from core import reference
from core.dataset import Dataset, Sample
from core.errors import PermanentError
from core.files import new_folder, write_atomic
from core.objects import Store
from core.reference import Reference
from core.release import ModelSpec
from core.scan import scan_folder
from serving.triton import repository
from workloads.configuration import RunConfig
from workloads.contract import Workload, load

SPEC, REPORT, REPOSITORY = "model.json", "export.json", "repository"
CHECKED = 16
"""Validation images on which ONNX is compared with torch."""

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Samples as the server would see them."""

    samples: list[Sample]
    images: NDArray[np.uint8]
    """[n, s, s, 3]"""
    statistics: Floats
    """float32 [n, k]"""
    targets: Labels


def export(dataset: Path, checkpoint: Path, config: RunConfig, store: Store, out: Path) -> ExportReport:
    """Export the weights in `checkpoint` (a folder that train wrote) to `out`, all or nothing.

    `out` gets `network.onnx`, `model.json` (core.release.ModelSpec), `reference/`, `export.json` and `repository/`.
    Raises PermanentError when ONNX and torch differ, or the scan finds what a release must not hold.
    """
    workload, table = load(config.workload), Dataset.read(dataset)
    rows = read_rows(workload, table, table.of("validation"), config, store)
    network = _trained(workload, table, config, checkpoint)
    normalise = workload.preprocess.normalise
    with new_folder(out) as draft:
        checked = torch.from_numpy(normalise(rows.images[:CHECKED]))
        difference = write_onnx(network, checked, config.export.opset, draft / FP32)
        ranges = [normalise(image[None]) for image in _ranges(workload, table, config, store)]
        choice = choose(draft, rows.images, normalise, ranges, config.export)
        _, samples = workload.loader.parts(table.of("validation"), config.export.calibration_share)
        part = reference.rows_of([sample.id for sample in samples], [sample.id for sample in rows.samples])
        spec = _spec(table, config, choice, rows, part)
        report = ExportReport(
            opset=config.export.opset,
            torch_difference=difference,
            precision=choice.precision,
            temperature=spec.temperature,
            abstain_below=spec.abstain_below,
            calibration_rows=len(part),
        )
        _write_reference(draft / reference.FOLDER, workload, table, rows, choice, part)
        write_atomic(draft / SPEC, spec.model_dump_json(indent=2))
        write_atomic(draft / REPORT, report.model_dump_json(indent=2))
        repository.write(draft / REPOSITORY, spec, draft / NETWORK, list(workload.export.SOURCES))
        scan_folder(draft)
    return report


def read_rows(workload: Workload, table: Dataset, samples: Iterable[Sample], config: RunConfig, store: Store) -> Rows:
    """The samples, decoded and described; 12 kB of memory a row at 64 px."""
    found = list(samples)
    if not found:
        raise PermanentError(f"dataset {table.info.digest[:12]} has no validation rows to export with")
    number = {label: index for index, label in enumerate(table.labels)}
    images = np.concatenate(list(workload.loader.images(found, config, table.info, store)))
    statistics = np.stack([workload.features.statistics(image) for image in images])
    return Rows(found, images, statistics, np.array([number[sample.label] for sample in found], dtype=np.int64))


def _trained(workload: Workload, table: Dataset, config: RunConfig, checkpoint: Path) -> torch.nn.Module:
    """What serves, with the trained weights."""
    network = workload.model.build(config, table.info, published=False)
    try:
        network.load_state_dict(load_file(checkpoint / MODEL))
    except RuntimeError as error:
        raise PermanentError(f"{MODEL} of the training does not fit its configuration: {error}") from error
    return workload.export.served(network)


def _ranges(workload: Workload, table: Dataset, config: RunConfig, store: Store) -> NDArray[np.uint8]:
    """uint8 [n, s, s, 3]: training images, drawn by their digests, over which the ranges of int8 are found."""
    samples = sorted(table.of("train"), key=lambda sample: sample.sha256)[: config.export.calibration_rows]
    return np.concatenate(list(workload.loader.images(samples, config, table.info, store)))


def _spec(table: Dataset, config: Any, choice: Choice, rows: Rows, part: Labels) -> ModelSpec:
    """What the model in the server knows; temperature and abstention are fitted on the rows in `part`."""
    logits, targets = choice.logits[part], rows.targets[part]
    heat = temperature(logits, targets)
    answers = softmax(logits / heat)
    right = answers.argmax(axis=1) == targets
    return ModelSpec(
        workload=config.workload,
        labels=table.labels,
        image_size=rows.images.shape[1],
        precision=choice.precision.chosen,
        temperature=heat,
        abstain_below=abstain_below(answers.max(axis=1), right, config.export.answered_accuracy),
        embedding_size=choice.embeddings.shape[1],
        synthetic=table.info.synthetic,
    )


def _write_reference(
    folder: Path, workload: Workload, table: Dataset, rows: Rows, choice: Choice, part: Labels
) -> None:
    description = Reference(
        version=reference.VERSION,
        dataset=table.info.digest,
        samples=tuple(rows.samples[row].id for row in part),
        labels=tuple(table.labels),
        statistics=workload.features.FEATURE_NAMES,
        embedding_size=choice.embeddings.shape[1],
        together=reference.together([rows.samples[row].group for row in part]),
    )
    predictions = choice.logits[part].argmax(axis=1)
    reference.write(folder, description, choice.embeddings[part], rows.statistics[part], predictions)
