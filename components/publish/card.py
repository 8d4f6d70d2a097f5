"""The release card (R07): data, metrics with intervals, limits, licence; Markdown that needs nothing else."""

from pathlib import Path

import jinja2

from components.evaluate.report import EvaluationReport
from components.export.report import ExportReport
from core.dataset import DatasetInfo
from core.lineage import Lineage
from core.verdict import Verdict

HERE = Path(__file__).parent
WORKLOADS = HERE.parents[1] / "workloads"
WEAKEST = 5
"""Classes that the card names as its worst."""


def card(
    exported: ExportReport, info: DatasetInfo, report: EvaluationReport, verdicts: list[Verdict], lineage: Lineage
) -> str:
    """The card as Markdown; `workloads/<name>/card.md` adds what only the workload knows."""
    environment = jinja2.Environment(  # nosec B701 # Markdown, not HTML
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    weakest = sorted((row for row in report.classes if row.rows), key=lambda row: row.f1)[:WEAKEST]
    notes = (WORKLOADS / info.workload / "card.md").read_text()
    return environment.get_template("card.md.jinja").render(
        exported=exported,
        info=info,
        report=report,
        verdicts=verdicts,
        lineage=lineage,
        weakest=weakest,
        absent=[row.label for row in report.classes if not row.rows],
        notes=notes,
    )
