"""The steps after training on prepared folders; as a program: one of them, which may kill itself at a write.

`python -m tests.unit.components.steps STEP ROOT [PATTERN]`: kill -9 when a file or folder is about to get a name that
the regular expression matches, or one of CALLS is about to be called.
"""

import json
import os
import re
import signal
import sys
from pathlib import Path
from unittest.mock import patch

from components.evaluate.evaluate import evaluate
from components.evaluate.report import EvaluationReport
from components.gate.gate import gate
from components.publish.publish import Made, PublishedRelease, publish
from components.register.register import register
from components.register.registry import Registry
from components.train.job import CONFIG
from core.files import write_atomic
from core.objects import Store
from core.slo import Slo
from core.step import reporting_errors
from workloads.pills.recipes import PillsConfig

WHEN = "2026-01-01T00:00:00+00:00"
CALLS = {
    "while Triton serves": "components.evaluate.asking._time",
    "before the version": "mlflow.MlflowClient.create_model_version",
    "before the alias": "mlflow.MlflowClient.set_registered_model_alias",
}


class Steps:
    """`root` has `data`, `trained` and `objects`; each step adds a folder of its name."""

    def __init__(self, root: Path, out: Path | None = None, objects: Path | None = None) -> None:
        self.root, self.out = root, out or root
        self.store = Store(str(objects or root / "objects"))

    def export(self):
        from components.export.export import export

        config = PillsConfig.from_file(self.root / "trained" / CONFIG)
        quick = config.model_copy(update={"export": config.export.model_copy(update={"int8": False})})
        return export(self.root / "data", self.root / "trained", quick, self.store, self.out / "exported")

    def evaluate(self):
        cache = self.root / "cache"
        repository = self.root / "exported" / "repository"
        return evaluate(self.root / "data", repository, self.store, self.out / "evaluated", cache)

    def gate(self):
        report = EvaluationReport.from_file(self.root / "evaluated" / "metrics.json")
        facts = [verdict.model_dump(mode="json") for verdict in gate(report, Slo.load("pills"))]
        write_atomic(self.out / "gated" / "verdicts.json", json.dumps(facts))

    def publish(self):
        made = Made(*(self.root / name for name in ("data", "trained", "exported", "evaluated", "gated")))
        config = (self.root / "trained" / CONFIG).read_text()
        return publish(made, config, "run-1", WHEN, self.root / "keys", self.store, self.out / "published")

    def register(self):
        published = PublishedRelease.from_file(self.root / "published" / "published.json")
        return register(published.model_copy(update={"mlflow_run": ""}), self.registry, "run-1")

    @property
    def registry(self):
        return Registry(f"sqlite:///{self.out / 'mlflow.db'}")


def main(step, root, pattern=""):
    real = os.replace

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def replace(source, target):
        if pattern and re.search(pattern, str(target)):
            die()
        real(source, target)

    with reporting_errors(step), patch(CALLS.get(pattern, "os.replace"), die if pattern in CALLS else replace):
        getattr(Steps(Path(root)), step)()


if __name__ == "__main__":
    main(*sys.argv[1:])
