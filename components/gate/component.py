"""The KFP step `gate`."""

from kfp import dsl
from kfp.dsl import Artifact, Input, Output

from core.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def gate(workload: str, evaluated: Input[Artifact], gated: Output[Artifact]) -> str:
    """Judge the evaluation by the workload's SLO; anything but a pass ends the run.

    Args:
        workload: Name of the workload; its slo.yaml is the ladder.
        evaluated: What `evaluate` measured.
        gated: Folder with verdicts.json.
    """
    import json
    from pathlib import Path

    from components.evaluate.report import EvaluationReport
    from components.gate.gate import gate, refuse_unless_passed
    from core.files import write_atomic
    from core.slo import Slo
    from core.step import reporting_errors
    from core.verdict import overall

    with reporting_errors("gate"):
        verdicts = gate(EvaluationReport.from_file(Path(evaluated.path, "metrics.json")), Slo.load(workload))
        facts = [verdict.model_dump(mode="json") for verdict in verdicts]
        write_atomic(Path(gated.path, "verdicts.json"), json.dumps(facts, indent=2))
        refuse_unless_passed(verdicts)
        return str(overall(verdicts))
