"""From an exported, evaluated repository to a sealed release in the object store, visible only when it is complete."""

import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from components.evaluate.report import EvaluationReport
from components.export.report import ExportReport
from components.publish.card import card
from components.train.job import TrainResult
from core.config import Config
from core.dataset import DatasetInfo
from core.files import new_folder, sha256_bytes, write_atomic
from core.lineage import Lineage, code_version, environment_digest
from core.objects import Store
from core.release import seal
from core.signing import ensure_keys
from core.verdict import Verdict


class PublishedRelease(Config):
    """`published.json`: where the release is, and what the registry shows of it."""

    workload: str
    digest: str
    uri: str
    dataset: str
    synthetic: bool
    accuracy: float
    precision: str
    mlflow_run: str


@dataclass(frozen=True)
class Made:
    """The folders that earlier steps left."""

    dataset: Path
    trained: Path
    exported: Path
    evaluated: Path
    gated: Path

    @property
    def report(self) -> EvaluationReport:
        """What was measured."""
        return EvaluationReport.from_file(self.evaluated / "metrics.json")

    @property
    def verdicts(self) -> list[Verdict]:
        """What the gate found."""
        facts = json.loads((self.gated / "verdicts.json").read_text())
        return [Verdict.model_validate(fact) for fact in facts]


def publish(
    made: Made, config: str, run: str, started_at: str, keys: Path, store: Store, out: Path
) -> PublishedRelease:
    """Assemble, seal, sign and upload the release; the same inputs give the same digest.

    The dataset's table goes to the store first: the final evaluation and a rebuilt drift reference need it.
    `keys` holds the signing key pair (made when missing). Writes `published.json` and a copy of the release to `out`. A
    killed call leaves only drafts: the store shows a release when its last file is there.
    """
    private, _ = ensure_keys(keys)
    info = DatasetInfo.from_file(made.dataset / "dataset.json")
    trained = TrainResult.from_file(made.trained / "train.json")
    lineage = _lineage(info, config, run, started_at)
    with new_folder(out / "release") as draft:
        _assemble(draft, made, info, lineage)
        digest = seal(draft, private)
    store.publish(made.dataset, f"datasets/{info.digest}")
    uri = store.publish(out / "release", f"releases/{digest}")
    report = made.report
    published = PublishedRelease(
        workload=info.workload,
        digest=digest,
        uri=uri,
        dataset=info.digest,
        synthetic=info.synthetic,
        accuracy=report.accuracy.value,
        precision=report.precision,
        mlflow_run=trained.mlflow_run,
    )
    write_atomic(out / "published.json", published.model_dump_json(indent=2))
    return published


def _assemble(draft: Path, made: Made, info: DatasetInfo, lineage: Lineage) -> None:
    shutil.copytree(made.exported / "repository", draft, dirs_exist_ok=True)
    shutil.copytree(made.exported / "reference", draft / "reference")
    shutil.copy(made.exported / "export.json", draft / "export.json")
    shutil.copy(made.evaluated / "metrics.json", draft / "metrics.json")
    write_atomic(draft / "lineage.json", lineage.model_dump_json(indent=2))
    exported = ExportReport.from_file(made.exported / "export.json")
    write_atomic(draft / "card.md", card(exported, info, made.report, made.verdicts, lineage))


def _lineage(info: DatasetInfo, config: str, run: str, started_at: str) -> Lineage:
    return Lineage(
        run=run,
        workload=info.workload,
        dataset=info.digest,
        config=sha256_bytes(config.encode()),
        code=code_version(),
        environment=environment_digest(),
        seed=json.loads(config)["train"]["seed"],
        created_at=datetime.fromisoformat(started_at),
    )
