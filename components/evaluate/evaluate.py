"""Measure the exported model on one side of the split: the very files that would serve, on the real server.

The gate reads the test side; `final_eval` is read only when a candidate is promoted. Next: components/gate.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.evaluate.asking import Served, check_same, logits, serve
from components.evaluate.plots import write_plots
from components.evaluate.report import ClassRow, EvaluationReport, Example, Measured
from core.dataset import Dataset, Sample, Split
from core.errors import DataError
from core.files import new_folder, write_atomic
from core.objects import Store
from core.release import ModelSpec
from workloads.contract import load

MATRIX = 200
"""Classes up to which the confusion matrix is kept."""
EXAMPLES = 12


def evaluate(
    dataset: Path, repository: Path, store: Store, out: Path, cache: Path, split: Split = "test"
) -> EvaluationReport:
    """Write `metrics.json` and `plots/` to `out`; returns the report.

    `repository` is a Triton repository or a whole release. Raises DataError when the side is empty, PermanentError
    when the served model and the network disagree.
    """
    data = Dataset.read(dataset)
    samples = list(data.of(split))
    if not samples:
        raise DataError(f"the side {split!r} has no samples: nothing can be measured; the data needs more groups")
    version = repository / data.info.workload / "1"
    spec = ModelSpec.from_file(version / "model.json")
    served = serve(repository, spec, samples, store, cache)
    scores = logits(version / "network.onnx", spec, samples, store)
    check_same(served, spec, scores, samples)
    report = _report(data, spec, split, samples, served, scores)
    with new_folder(out) as draft:
        write_atomic(draft / "metrics.json", report.model_dump_json(indent=2))
        write_plots(draft / "plots", report, *_confidence(spec, samples, scores))
    return report


def _targets(spec: ModelSpec, samples: Sequence[Sample]) -> NDArray[np.int64]:
    place = {label: index for index, label in enumerate(spec.labels)}
    return np.array([place[sample.label] for sample in samples], dtype=np.int64)


def _confidence(
    spec: ModelSpec, samples: Sequence[Sample], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    metrics = load(spec.workload).metrics
    probabilities = metrics.softmax(scores, spec.temperature)
    return probabilities.max(axis=1), scores.argmax(axis=1) == _targets(spec, samples)


def _report(
    data: Dataset,
    spec: ModelSpec,
    split: Split,
    samples: Sequence[Sample],
    served: Served,
    scores: NDArray[np.float64],
) -> EvaluationReport:
    metrics = load(spec.workload).metrics
    targets = _targets(spec, samples)
    groups = np.unique([sample.group for sample in samples], return_inverse=True)[1]

    def measured(values: NDArray[Any]) -> Measured:
        found = metrics.bootstrap(values.astype(np.float64), groups)
        return Measured(value=found.value, low=found.low, high=found.high)

    right = scores.argmax(axis=1) == targets
    places = metrics.ranks(scores, targets)
    plain = metrics.softmax(scores).max(axis=1)
    confidence, _ = _confidence(spec, samples, scores)
    table = metrics.confusion(scores.argmax(axis=1), targets, len(spec.labels))
    precision, recall, f1 = metrics.per_class(table)
    present = table.sum(axis=1) > 0
    auc = metrics.macro_auc(metrics.softmax(scores), targets)
    answered = ~served.abstains
    return EvaluationReport(
        workload=spec.workload,
        dataset=data.info.digest,
        synthetic=data.info.synthetic,
        split=split,
        rows=len(samples),
        groups=int(groups.max()) + 1,
        precision=spec.precision,
        accuracy=measured(right),
        top5=measured(places <= 5),
        mean_average_precision=measured(1 / places),
        auc=None if np.isnan(auc) else auc,
        macro_f1=float(f1[present].mean()),
        ece_before=metrics.calibration_error(plain, right),
        ece_after=metrics.calibration_error(confidence, right),
        temperature=spec.temperature,
        answered=float(answered.mean()),
        answered_accuracy=float(right[answered].mean()) if answered.any() else None,
        classes=tuple(
            ClassRow(label=label, rows=int(table[i].sum()), precision=precision[i], recall=recall[i], f1=f1[i])
            for i, label in enumerate(spec.labels)
        ),
        confusion=tuple(map(tuple, table.tolist())) if len(spec.labels) <= MATRIX else (),
        latency=served.latency,
        memory_mb=served.memory_mb,
        examples=_examples(samples, served, right),
    )


def _examples(samples: Sequence[Sample], served: Served, right: NDArray[np.bool_]) -> tuple[Example, ...]:
    """Wrong answers first, at most half of the examples; then right ones, evenly spaced over the side."""
    wrong = np.flatnonzero(~right)[: EXAMPLES // 2]
    good = np.flatnonzero(right)
    good = good[:: max(1, len(good) // (EXAMPLES - len(wrong)))][: EXAMPLES - len(wrong)]
    return tuple(
        Example(
            id=samples[i].id,
            sha256=samples[i].sha256,
            label=samples[i].label,
            answer=served.labels[i],
            probability=float(served.probabilities[i]),
            abstain=bool(served.abstains[i]),
        )
        for i in (*wrong, *good)
    )
