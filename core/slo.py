"""The ladder of limits of one workload (`workloads/<name>/slo.yaml`): gates, rollout limits and alerts all read it."""

from pathlib import Path

import yaml

from core.config import Config


class Accuracy(Config):
    """Shares of right answers, 0..1; each lower limit starts a stronger reaction."""

    target: float
    gate: float
    """Below it no release is registered as candidate (R02)."""
    retrain: float
    """Below it the retraining controller acts (B03)."""
    alert: float
    """Below it an alert is critical and a promoted release is rolled back (R05); up to `gate` it warns (X01)."""


class Latency(Config):
    """At the service's edge, milliseconds."""

    target_ms: float
    """What a customer sees (S04)."""
    p95_ms: float
    p99_ms: float


class Drift(Config):
    """When a drift score matters."""

    retrain: float
    """Score 0..1 above which retraining is considered (M07)."""
    min_events: int
    """Fewer events in the window make the verdict inconclusive (M06)."""
    window_hours: float
    alert_within_hours: float


class Volume(Config):
    """Requests against the usual ones of the same hour, yesterday and a week ago (M09)."""

    high: float
    """More than this many times the busier of the two is unusual."""
    low: float
    """Less than this share of the quieter of the two is unusual."""


class AlertMinutes(Config):
    """How long a limit must be passed before its alert fires (M08, M09)."""

    accuracy: float
    latency: float
    drift: float
    volume: float


class Slo(Config):
    """The one ladder of DESIGN.md."""

    accuracy: Accuracy
    latency: Latency
    memory_mb: float
    """Highest resident memory of one serving instance, MiB (R02)."""
    availability: float
    """Share of requests answered without a server error over 30 days (S07)."""
    drift: Drift
    volume: Volume
    alert_minutes: AlertMinutes

    @classmethod
    def load(cls, workload: str) -> "Slo":
        """The ladder of `workloads/<workload>/slo.yaml`."""
        path = Path(__file__).parents[1] / "workloads" / workload / "slo.yaml"
        return cls.model_validate(yaml.safe_load(path.read_text()))
