"""On the real Triton."""

import dataclasses

import numpy as np
import pytest

from components.evaluate.asking import Served, check_same
from components.evaluate.evaluate import evaluate
from components.evaluate.page import page
from components.evaluate.report import EvaluationReport, Latency
from components.export.export import REPOSITORY
from core.dataset import Dataset
from core.errors import DataError, PermanentError
from core.objects import Store
from core.release import ModelSpec

SPEC = ModelSpec(
    workload="pills",
    labels=["a", "b"],
    image_size=32,
    precision="int8",
    temperature=1.0,
    abstain_below=0.0,
    embedding_size=2,
    synthetic=False,
)


@pytest.fixture(scope="session")
def evaluated(trained, exported, triton_cache):
    """The folder that evaluate leaves, of the test side."""
    store = Store(str(trained / "objects"))
    evaluate(trained / "data", exported / REPOSITORY, store, trained / "evaluated", triton_cache)
    return trained / "evaluated"


@pytest.fixture
def report(evaluated):
    return EvaluationReport.from_file(evaluated / "metrics.json")


def test_the_test_side_is_measured_and_no_other(report, trained):
    samples = list(Dataset.read(trained / "data").of("test"))
    assert (report.split, report.rows) == ("test", len(samples))
    assert report.groups == len({sample.group for sample in samples})
    assert report.dataset == Dataset.read(trained / "data").info.digest
    assert {example.id for example in report.examples} <= {sample.id for sample in samples}


def test_the_numbers_agree_with_each_other(report):
    table = np.array(report.confusion)
    assert table.sum() == report.rows
    assert report.accuracy.value == pytest.approx(np.trace(table) / report.rows)
    assert report.accuracy.low <= report.accuracy.value <= report.accuracy.high
    assert report.accuracy.value <= report.mean_average_precision.value <= report.top5.value == 1.0
    assert [row.rows for row in report.classes] == table.sum(axis=1).tolist()
    assert report.macro_f1 == pytest.approx(np.mean([row.f1 for row in report.classes]))


def test_a_model_that_learned_is_found_to_have_learned(report):
    assert report.accuracy.value > 0.8
    assert report.auc > 0.9
    assert report.ece_after < report.ece_before + 0.05


def test_latency_and_memory_are_those_of_a_server_that_ran(report):
    assert 0 < report.latency.p50_ms <= report.latency.p95_ms <= report.latency.p99_ms
    assert report.latency.requests == min(200, report.rows)
    assert report.memory_mb > 50


def test_the_plots_are_pictures_and_the_page_holds_them(evaluated, report):
    plots = sorted(path.name for path in (evaluated / "plots").iterdir())
    assert plots == ["classes.svg", "confusion.svg", "reliability.svg"]
    html = page(report, evaluated / "plots")
    assert html.count("<svg") == 3
    assert "accuracy" in html


def test_a_side_without_samples_is_an_error(trained, exported, triton_cache, tmp_path):
    dataset = Dataset.read(trained / "data")
    kept = dataset.info.model_dump(exclude={"digest", "rows", "classes"})
    Dataset.write(tmp_path / "data", [s for s in dataset.samples if s.split != "final_eval"], **kept)
    with pytest.raises(DataError, match="the side 'final_eval' has no samples"):
        evaluate(
            tmp_path / "data",
            exported / REPOSITORY,
            Store(str(trained / "objects")),
            tmp_path / "out",
            triton_cache,
            "final_eval",
        )


def served(*labels):
    rows = len(labels)
    latency = Latency(requests=1, p50_ms=1, p95_ms=1, p99_ms=1)
    return Served(list(labels), np.ones(rows, np.float32), np.zeros(rows, bool), latency, 1.0)


@dataclasses.dataclass
class Named:
    id: str


def test_a_server_that_answers_otherwise_than_the_network_is_refused():
    scores = np.array([[2.0, 1.0], [1.0, 2.0]])
    samples = [Named("x.png"), Named("y.png")]
    check_same(served("a", "b"), SPEC, scores, samples)
    with pytest.raises(PermanentError, match=r"disagree on 1 of 2 images, first 'y\.png'"):
        check_same(served("a", "a"), SPEC, scores, samples)


def test_a_tie_is_no_disagreement():
    check_same(served("b"), SPEC, np.array([[1.0, 1.0 - 1e-6]]), [Named("x.png")])
