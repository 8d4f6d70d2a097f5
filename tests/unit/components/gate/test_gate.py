import pytest

from components.evaluate.report import EvaluationReport, Latency, Measured
from components.gate.gate import gate, refuse_unless_passed
from core.errors import UserError
from core.slo import Slo
from core.verdict import Outcome

SLO = Slo.load("pills")


def report(accuracy=0.95, rows=200, p95=20.0, memory=400.0):
    share = Measured(value=accuracy, low=accuracy - 0.02, high=min(1.0, accuracy + 0.02))
    return EvaluationReport(
        workload="pills",
        dataset="d",
        synthetic=False,
        split="test",
        rows=rows,
        groups=50,
        precision="int8",
        accuracy=share,
        top5=share,
        mean_average_precision=share,
        auc=0.99,
        macro_f1=accuracy,
        ece_before=0.1,
        ece_after=0.02,
        temperature=0.7,
        answered=0.95,
        answered_accuracy=0.97,
        classes=(),
        confusion=(),
        latency=Latency(requests=200, p50_ms=5, p95_ms=p95, p99_ms=p95 * 1.5),
        memory_mb=memory,
        examples=(),
    )


def outcomes(**changes):
    return [verdict.outcome for verdict in gate(report(**changes), SLO)]


def test_a_good_model_passes_every_limit():
    assert outcomes() == [Outcome.PASS] * 3
    refuse_unless_passed(gate(report(), SLO))


@pytest.mark.parametrize(
    ("changes", "question", "number"),
    [
        ({"accuracy": 0.8999}, "accuracy >= 0.90", "0.900"),
        ({"p95": 1000.1}, "latency p95 <= 1000 ms", "1000.1"),
        ({"memory": 2048.5}, "memory <= 2048 MiB", "2048.5"),
    ],
)
def test_each_limit_alone_refuses_and_says_with_what(changes, question, number):
    verdicts = gate(report(**changes), SLO)
    assert [v.question for v in verdicts if v.outcome is Outcome.FAIL] == [question]
    with pytest.raises(UserError, match=rf"{question}: fail, {number}.*Nothing was registered"):
        refuse_unless_passed(verdicts)


@pytest.mark.parametrize("changes", [{"accuracy": 0.90}, {"p95": 1000.0}, {"memory": 2048.0}])
def test_the_limits_themselves_pass(changes):
    assert outcomes(**changes) == [Outcome.PASS] * 3


def test_too_few_images_are_inconclusive_and_never_a_pass():
    verdicts = gate(report(accuracy=1.0, rows=29), SLO)
    assert verdicts[0].outcome is Outcome.INCONCLUSIVE
    with pytest.raises(UserError, match="29 images are too few; 30 are needed"):
        refuse_unless_passed(verdicts)
    assert outcomes(accuracy=1.0, rows=30)[0] is Outcome.PASS


def test_nothing_measured_is_no_pass():
    with pytest.raises(UserError):
        refuse_unless_passed([])


def test_the_interval_is_reported_with_the_verdict():
    assert "0.930 to 0.970" in gate(report(), SLO)[0].reason
