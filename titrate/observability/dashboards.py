"""Grafana dashboards (M04) over the metrics that there are; `python -m titrate.observability` writes them as JSON.

A panel is here only if its queries give data on a running stack (tests/integration/test_dashboards.py asks every one).
Training has none yet: its curves are in MLflow and in report.html.
"""

import json
from collections.abc import Callable, Iterable
from string import ascii_uppercase
from typing import NamedTuple

from grafana_foundation_sdk.builders.dashboard import Dashboard, DashboardLink, DatasourceVariable
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DashboardLinkType, DataSourceRef

from titrate.observability import sources
from titrate.observability.rules import RUNBOOK

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH, HEIGHT = 8, 7
"""Of 24 columns; three panels in a row."""


class Panel(NamedTuple):
    """One graph, or a number where `now`."""

    title: str
    text: str
    unit: str
    """Grafana's: short, reqps, percentunit, ms, s, bytes."""
    queries: dict[str, str]
    """Legend -> PromQL."""
    now: bool = False


EDGE, OK = sources.EDGE, 'outcome="ok"'
ABSTAINED = (
    f"sum by (model) (rate(titrate_abstentions_total[1h])) / sum by (model) (rate({sources.PREDICTIONS}{{{OK}}}[1h]))"
)
QUEUED = (
    "sum by (model) (rate(nv_inference_queue_duration_us[5m]))"
    " / sum by (model) (rate(nv_inference_request_success[5m])) / 1000"
)


def _quantile(share: float, histogram: str, window: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket[{window}])))"


def _each(metric: str, by: str, window: str = "5m", call: str = "rate") -> str:
    return f"sum by ({by}) ({call}({metric}[{window}]))"


PANELS: dict[str, tuple[Panel, ...]] = {
    "system": (
        Panel(
            "Requests",
            "What clients asked, by class of status, at the edge.",
            "reqps",
            {"{{envoy_response_code_class}}xx": _each(f"{sources.REQUESTS}{{{EDGE}}}", "envoy_response_code_class")},
        ),
        Panel(
            "Errors",
            "Share of requests that the platform failed.",
            "percentunit",
            {"5 min": "titrate:edge_errors:ratio_rate5m", "1 h": "titrate:edge_errors:ratio_rate1h"},
        ),
        Panel(
            "Error budget left",
            "Of 30 days; below zero the objective is missed.",
            "percentunit",
            {"left": "titrate:edge_errors:budget_left30d"},
            now=True,
        ),
        Panel(
            "Time to answer",
            "First byte of a request to the last of its answer.",
            "ms",
            {name: f"titrate:edge_duration_ms:{name}" for name in ("p50", "p95", "p99")},
        ),
        Panel("Model ready", "As the gateway sees it.", "short", {"ready": f"min({sources.READY})"}, now=True),
        Panel(
            "Refusals",
            "Problem answers of the gateway, by code.",
            "reqps",
            {"{{code}}": _each("titrate_gateway_problems_total", "code")},
        ),
    ),
    "model": (
        Panel(
            "Predictions",
            "Items by outcome: ok, or why the image was refused.",
            "reqps",
            {"{{model}} {{outcome}}": _each(sources.PREDICTIONS, "model, outcome")},
        ),
        Panel(
            "Releases",
            "Who answers: a rollout shows as two lines.",
            "reqps",
            {"{{model}} {{release}}": _each(sources.PREDICTIONS, "model, release")},
        ),
        Panel(
            "Accuracy",
            "Right answers among those labelled in the last 24 hours, from 100 labels on.",
            "percentunit",
            {"{{workload}}": "titrate:accuracy:ratio"},
        ),
        Panel(
            "Confidence",
            "Items by band of the calibrated probability (its lower end).",
            "short",
            {"{{model}} {{band}}": _each("titrate_confidence_total", "model, band", "1h", "increase")},
        ),
        Panel("Abstentions", "Share of items that a person has to look at.", "percentunit", {"{{model}}": ABSTAINED}),
        Panel(
            "Time of a batch",
            "95 % of batches are decoded and answered within, without queue.",
            "s",
            {"{{model}}": _quantile(0.95, "titrate_execution_seconds", "5m", "model")},
        ),
    ),
    "business": (
        Panel(
            "Images assessed in an hour",
            "Answered, by model.",
            "short",
            {"{{model}}": _each(f"{sources.PREDICTIONS}{{{OK}}}", "model", "1h", "increase")},
        ),
        Panel(
            "Answers that need no person",
            "The share that is not abstained: what the model saves.",
            "percentunit",
            {"{{model}}": f"1 - {ABSTAINED}"},
        ),
        Panel(
            "Labels in an hour",
            "What people said the answers should have been.",
            "short",
            {"{{result}}": _each(sources.LABELS, "result", "1h", "increase")},
        ),
        Panel(
            "Delay of labels",
            "Half of the labels come within.",
            "s",
            {"median": _quantile(0.5, "titrate_feedback_label_delay_seconds", "1d")},
        ),
        Panel(
            "Data collected in a day",
            "Sampled predictions that were kept.",
            "short",
            {"{{result}}": _each("titrate_feedback_events_total", "result", "1d", "increase")},
        ),
    ),
    "drift": (
        Panel(
            "Drift score",
            "Of the window, 0..1; nothing with fewer than 100 events.",
            "short",
            {"{{workload}}": sources.DRIFT},
        ),
        Panel(
            "Evidence of drift",
            "Nats, by what it is about; an alarm is raised when the parts' average passes the limit.",
            "short",
            {
                "{{workload}} {{part}}": "titrate_drift_evidence_nats",
                "{{workload}} limit": "titrate_drift_limit_nats",
            },
        ),
        Panel(
            "Open alarms",
            "By cause; docs/drift.md says what each asks for.",
            "short",
            {"{{cause}}": "sum by (cause) (titrate_drift_alarm)"},
        ),
        Panel(
            "Alarms in a day",
            "By cause.",
            "short",
            {"{{cause}}": _each("titrate_drift_alarms_total", "cause", "1d", "increase")},
        ),
        Panel(
            "Last look",
            "Since the events were last looked at.",
            "s",
            {"{{workload}}": "time() - titrate_drift_updated_timestamp_seconds"},
        ),
        Panel(
            "Failed trainings in a week",
            "That brought no serving release.",
            "short",
            {"{{workload}}": _each(sources.RETRAIN_FAILURES, "workload", "7d", "increase")},
        ),
    ),
    "infrastructure": (
        Panel(
            "Memory of models",
            "Proportional set size, all processes of a model.",
            "bytes",
            {"{{model}}": f"sum by (model) ({sources.MEMORY})"},
        ),
        Panel("Waiting in Triton", "Queue before a request is computed.", "ms", {"{{model}}": QUEUED}),
        Panel("Scraped", "Targets that answer, by job.", "percentunit", {"{{job}}": "avg by (job) (up)"}),
        Panel(
            "Predictions in the gateway",
            "At this moment.",
            "short",
            {"in flight": "sum(titrate_gateway_in_flight_requests)"},
        ),
        Panel(
            "Bodies held by the gateway",
            "At this moment.",
            "bytes",
            {"held": "sum(titrate_gateway_buffered_bytes)"},
        ),
        Panel(
            "Events of models",
            "Sent, dropped (queue full), refused (by the feedback service), shed (under load).",
            "reqps",
            {"{{result}}": _each(sources.EVENTS, "result")},
        ),
        Panel(
            "Time to store a batch",
            "95 % of the feedback service's writes.",
            "s",
            {"{{kind}}": _quantile(0.95, "titrate_feedback_write_seconds", "5m", "kind")},
        ),
    ),
    "alerts": (
        Panel(
            "Firing",
            "Alerts now; zero is quiet.",
            "short",
            {"alerts": 'count(ALERTS{alertname=~"Titrate.*",alertstate="firing"}) or vector(0)'},
            now=True,
        ),
        Panel(
            "Incidents",
            "Alerts that fired, by name.",
            "short",
            {
                "{{alertname}} {{severity}}": "sum by (alertname, severity)"
                ' (ALERTS{alertname=~"Titrate.*",alertstate="firing"}) or vector(0)'
            },
        ),
        Panel(
            "Burn of the error budget",
            "Share of failed requests over the windows that alerts watch.",
            "percentunit",
            {window: f"titrate:edge_errors:ratio_rate{window}" for window in ("5m", "30m", "1h", "6h")},
        ),
        Panel(
            "Burn of the latency budget",
            "Share of answers slower than p95's limit.",
            "percentunit",
            {window: f"titrate:edge_slow_p95:ratio_rate{window}" for window in ("5m", "1h", "4h")},
        ),
    ),
}


def dashboards() -> dict[str, str]:
    """JSON by name, as Grafana imports it."""
    made = {name: _dashboard(name, panels) for name, panels in PANELS.items()}
    return {name: json.dumps(board, cls=JSONEncoder, indent=1) + "\n" for name, board in made.items()}


def _dashboard(name: str, panels: Iterable[Panel]) -> object:
    runbook = DashboardLink("Runbook").type(DashboardLinkType.LINK).url(RUNBOOK).target_blank(True)
    made = (
        Dashboard(f"Titrate: {name}")
        .uid(f"titrate-{name}")
        .tags(["titrate"])
        .time("now-6h", "now")
        .refresh("30s")
        .readonly()
        .link(runbook)
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for panel in panels:
        made = made.with_panel(_drawn(panel))
    return made.build()


def _drawn(panel: Panel) -> Timeseries | Stat:
    kind: Callable[[], Timeseries | Stat] = Stat if panel.now else Timeseries
    drawn = kind().title(panel.title).description(panel.text).unit(panel.unit).datasource(SOURCE)
    drawn = drawn.span(WIDTH).height(HEIGHT)
    for letter, (legend, query) in zip(ascii_uppercase, panel.queries.items(), strict=False):
        drawn = drawn.with_target(Dataquery().ref_id(letter).expr(query).legend_format(legend))
    return drawn
