"""How one workload of a home is watched and trained again: the ladder's limits, and what the user changed of the rest.

`<home>/loop/<workload>/settings.json` holds the changes, as JSON of the same shape; without it everything is default.
"""

import json
from pathlib import Path
from typing import Any

from core.config import Config
from core.errors import UserError
from core.home import Home
from core.slo import Slo
from serving.drift import monitor
from serving.retraining.decide import RetrainingSpec
from titrate.rollouts.specs import Asked


class LoopSettings(Config):
    """Of one workload."""

    watch: monitor.Settings = monitor.Settings()
    retraining: RetrainingSpec
    automatic: bool = True
    """False: drift is told and nothing is trained, except by hand."""
    source: str | None = None
    """Folder or manifest with old and new data; none: that of the run which made the stable release."""
    config: str | None = None
    """Run configuration to train by, such as the best of a sweep (U02); none: that of the run which made stable."""
    rollout: Asked
    """How a new release asks for its traffic."""


def folder(home: Home, workload: str) -> Path:
    """Everything the loop keeps of a workload."""
    return home.root / "loop" / workload


def settings(home: Home, workload: str) -> LoopSettings:
    """The defaults with the changes of the home; raises UserError for a file that cannot be understood."""
    ladder = Slo.load(workload)
    spec = RetrainingSpec(
        accuracy=ladder.accuracy.retrain, drift=ladder.drift.retrain, min_labels=ladder.drift.min_events
    )
    base = LoopSettings(retraining=spec, rollout=Asked(workload=workload))
    file = folder(home, workload) / "settings.json"
    if not file.exists():
        return base
    try:
        changes = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{str(file)!r} is no JSON: {error}") from error
    if not isinstance(changes, dict):
        raise UserError(f"{str(file)!r} holds no object; write what differs, such as {{'automatic': false}}")
    return LoopSettings.from_json(json.dumps(_merged(base.model_dump(mode="json"), changes)), str(file))


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: _merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in changes.items()
    }
