"""Alertmanager's configuration: who hears of what. Credentials are files, mounted from a secret that exists already."""

from typing import Any

from pydantic import Field

from core.config import Config
from titrate.observability.rules import DATA, ML, SRE
from titrate.observability.spans import PAGE

Json = dict[str, Any]


class Receivers(Config):
    """Where alerts go. Teams are those of the rules."""

    secrets: str = "/etc/alertmanager/secrets"
    """Folder with the files `slack-url`, `pagerduty-key` and `smtp-password`."""
    channels: dict[str, str] = Field(default={SRE: "#titrate-sre", ML: "#titrate-ml", DATA: "#titrate-data"})
    """Slack channel by team."""
    smtp: str = "smtp.example.org:587"
    sender: str = "titrate@example.org"
    mail: dict[str, str] = Field(
        default={SRE: "sre@example.org", ML: "ml-engineering@example.org", DATA: "data-science@example.org"}
    )
    webhook: str = "http://titrate-alerts/alerts"
    """Gets every alert as JSON: the place for anything else."""


def alertmanager(where: Receivers, pace: float = 1.0) -> Json:
    """The configuration; `pace` shortens the waits as it does those of the rules.

    Every alert reaches its team's Slack channel, e-mail and the webhook; what is critical also calls PagerDuty.
    """
    return {
        "global": {
            "slack_api_url_file": f"{where.secrets}/slack-url",
            "smtp_smarthost": where.smtp,
            "smtp_from": where.sender,
            "smtp_auth_username": where.sender,
            "smtp_auth_password_file": f"{where.secrets}/smtp-password",
        },
        "route": {
            "receiver": SRE,
            "group_by": ["alertname", "workload"],
            "group_wait": _seconds(30, pace),
            "group_interval": _seconds(300, pace),
            "repeat_interval": _seconds(4 * 3600, pace),
            "routes": [
                {"receiver": "webhook", "matchers": ['severity=~".+"'], "continue": True},
                {"receiver": "pagerduty", "matchers": [f'severity="{PAGE}"'], "continue": True},
                *({"receiver": team, "matchers": [f'team="{team}"']} for team in where.channels),
            ],
        },
        # The faster burn of the same budget, or the worse accuracy, says what the slower one would.
        "inhibit_rules": [
            {
                "source_matchers": [f'severity="{PAGE}"'],
                "target_matchers": ['severity="warning"'],
                "equal": ["alertname", "workload"],
            }
        ],
        "receivers": [_webhook(where), _pagerduty(where), *(_team(where, team) for team in where.channels)],
    }


def _seconds(length: float, pace: float) -> str:
    return f"{max(1, round(length / pace))}s"


def _webhook(where: Receivers) -> Json:
    return {"name": "webhook", "webhook_configs": [{"url": where.webhook, "send_resolved": True}]}


def _pagerduty(where: Receivers) -> Json:
    return {
        "name": "pagerduty",
        "pagerduty_configs": [
            {
                "routing_key_file": f"{where.secrets}/pagerduty-key",
                "description": "{{ .CommonLabels.alertname }} {{ .CommonLabels.workload }}",
                "details": {"runbook": "{{ .CommonAnnotations.runbook_url }}"},
            }
        ],
    }


def _team(where: Receivers, team: str) -> Json:
    lines = "{{ range .Alerts }}{{ .Annotations.summary }} ({{ .Annotations.runbook_url }})\n{{ end }}"
    slack = {
        "channel": where.channels[team],
        "send_resolved": True,
        "title": "{{ .Status }}: {{ .CommonLabels.alertname }} {{ .CommonLabels.workload }}",
        "text": lines,
    }
    return {
        "name": team,
        "slack_configs": [slack],
        "email_configs": [{"to": where.mail[team], "send_resolved": True}],
    }
