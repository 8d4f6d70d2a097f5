"""The alerts of M08 and M09 in a real Prometheus and Alertmanager: quiet, then each fires and reaches its receivers.

Every duration is divided by 60, as the generator does it. The metrics are simulated; a day of history is backfilled.
"""

import http.server
import json
import subprocess
import threading
import time
from pathlib import Path

import pytest
import yaml

from core.slo import Slo
from serving.triton.server import free_ports
from tests.prometheus import command, query, running
from tests.promtool import tool
from titrate.observability.alertmanager import Receivers, alertmanager
from titrate.observability.rules import rules
from titrate.observability.spans import DAY, HOUR, PAGE

PACE = 60.0
USUAL = 20.0
"""Predictions a second of each workload."""
QUIET_SECONDS = 12.0
WITHIN = 45.0
EDGE = 'envoy_http_conn_manager_prefix="edge"'
BROKEN = {
    ("TitrateAccuracyLow", "pills"): ("ml-engineering", "critical"),
    ("TitrateDrift", "pills"): ("data-science", "warning"),
    ("TitrateVolumeHigh", "pills"): ("sre", "warning"),
    ("TitrateVolumeLow", "quiet"): ("sre", "warning"),
    ("TitrateLatencyHigh", ""): ("sre", "warning"),
}
"""M08 and M09: (alert, workload) -> (team, severity)."""


class World:
    """Two workloads behind one edge, as their counters show them: healthy until `breaks`, then not."""

    def __init__(self) -> None:
        self.began = time.time()
        self.broken_at: float | None = None

    def text(self) -> str:
        """Prometheus' exposition now."""
        now = time.time()
        bad = now - self.broken_at if self.broken_at else 0.0
        good = now - self.began - bad
        slow, fast = 100 * bad, 100 * good
        lines = [f'envoy_http_downstream_rq_time_bucket{{{EDGE},le="{le}"}} {fast}' for le in (500, 1000, 2000)]
        lines += [f'envoy_http_downstream_rq_time_bucket{{{EDGE},le="{le}"}} {fast + slow}' for le in (2500, "+Inf")]
        lines += [f"envoy_http_downstream_rq_time_count{{{EDGE}}} {fast + slow}"]
        for workload, factor in (("pills", 5.0), ("quiet", 0.0)):
            count = USUAL * (DAY / PACE * 1.2 + good + factor * bad)
            lines.append(f'titrate_predictions_total{{model="{workload}",outcome="ok"}} {count}')
        wrong = 100 * bad
        lines += [
            f'titrate_feedback_outcomes_total{{workload="pills",outcome="right"}} {10 * good}',
            f'titrate_feedback_outcomes_total{{workload="pills",outcome="wrong"}} {0.2 * good + wrong}',
            f'titrate_drift_score{{workload="pills"}} {0.5 if bad else 0.1}',
        ]
        return "\n".join(lines) + "\n"

    def history(self) -> str:
        """A day (24 minutes) of usual predictions before the test, as OpenMetrics."""
        lines = ["# TYPE titrate_predictions counter"]
        seconds = int((DAY + HOUR) / PACE)
        for workload in ("pills", "quiet"):
            for ago in range(seconds, 4, -2):
                count = USUAL * (DAY / PACE * 1.2 - ago)
                stamp = f"{self.began - ago:.3f}"
                lines.append(f'titrate_predictions_total{{model="{workload}",outcome="ok"}} {count} {stamp}')
        return "\n".join([*lines, "# EOF", ""])


class Listener(http.server.BaseHTTPRequestHandler):
    """Serves the metrics, and takes what Alertmanager sends."""

    world: World
    told: list[tuple[str, dict]]

    def do_GET(self):
        body = self.world.text().encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.told.append((self.path, body))
        self.send_response(202 if self.path == "/pagerduty" else 200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def listener():
    handler = type("Handler", (Listener,), {"world": World(), "told": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def monitored(tmp_path: Path, listener):
    """Address of a Prometheus with the paced rules that reads the listener, beside an Alertmanager."""
    handler, url = listener
    ports = free_ports()
    slos = dict.fromkeys(("pills", "quiet"), Slo.load("pills"))
    _configure(tmp_path, url, slos)
    (tmp_path / "history.om").write_text(handler.world.history())
    data = tmp_path / "data"
    fill = [tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "history.om"), str(data)]
    subprocess.run(fill, check=True, capture_output=True)
    receiver = [
        tool("prometheus-alertmanager"),
        "--config.file=alertmanager.yaml",
        "--storage.path=alerts",
        f"--web.listen-address=127.0.0.1:{ports.http}",
        "--cluster.listen-address=",
    ]
    with running(tmp_path, [receiver, command(tmp_path, ports.grpc, _prometheus(url, ports.http))]):
        yield f"http://127.0.0.1:{ports.grpc}"


def _configure(folder: Path, url: str, slos: dict[str, Slo]) -> None:
    secrets = folder / "secrets"
    secrets.mkdir()
    for name, text in (("slack-url", f"{url}/slack"), ("pagerduty-key", "a" * 32), ("smtp-password", "none")):
        (secrets / name).write_text(text)
    alerts = alertmanager(Receivers(secrets=str(secrets), webhook=f"{url}/webhook", smtp="127.0.0.1:1"), PACE)
    alerts["global"]["pagerduty_url"] = f"{url}/pagerduty"
    for name, content in (("alertmanager.yaml", alerts), ("rules.yaml", rules(slos, PACE))):
        (folder / name).write_text(yaml.safe_dump(content))


def _prometheus(url: str, port: int) -> dict[str, object]:
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]},
        "scrape_configs": [
            {"job_name": "titrate-test", "static_configs": [{"targets": [url.removeprefix("http://")]}]}
        ],
    }


def test_what_breaks_is_told_to_its_receivers_and_a_quiet_time_to_none(listener, monitored, tmp_path):
    handler, _ = listener
    _wait(lambda: _usual(monitored) == {"pills", "quiet"}, "yesterday's predictions are known", tmp_path)
    time.sleep(QUIET_SECONDS)
    assert _firing(monitored) == {}
    assert handler.told == []
    handler.world.broken_at = time.time()
    _wait(lambda: BROKEN.keys() <= _by_webhook(handler).keys(), "each alert reached the webhook", tmp_path)
    told = _by_webhook(handler)
    assert {key: told[key] for key in BROKEN} == BROKEN
    others = {name for name, _ in told.keys() - BROKEN.keys()}
    assert others <= {"TitrateSlowP95BudgetBurn", "TitrateSlowP99BudgetBurn"}, others
    _wait(lambda: BROKEN.keys() <= _by_slack(handler), "each alert reached Slack", tmp_path)
    calls = {body["payload"]["summary"] for path, body in handler.told if path == "/pagerduty"}
    critical = {f"{name} {workload}".strip() for (name, workload), (_, severity) in told.items() if severity == PAGE}
    assert {one.strip() for one in calls} <= critical
    assert "TitrateAccuracyLow pills" in calls


def _usual(prometheus: str) -> set[str]:
    return {one["metric"]["workload"] for one in query(prometheus, "titrate:predictions:usual")}


def _firing(prometheus: str) -> dict[str, str]:
    found = [one["metric"] for one in query(prometheus, 'ALERTS{alertstate="firing"}')]
    return {one["alertname"]: one.get("workload", "") for one in found}


def _by_webhook(handler: type[Listener]) -> dict[tuple[str, str], tuple[str, str]]:
    found = {}
    for path, body in list(handler.told):
        for alert in body["alerts"] if path == "/webhook" else []:
            labels = alert["labels"]
            found[labels["alertname"], labels.get("workload", "")] = (labels["team"], labels["severity"])
    return found


def _by_slack(handler: type[Listener]) -> set[tuple[str, str]]:
    titles = [body["attachments"][0]["title"].split() for path, body in list(handler.told) if path == "/slack"]
    return {(words[1], words[2] if len(words) > 2 else "") for words in titles}


def _wait(condition, what: str, folder: Path) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, f"not in {WITHIN:.0f} s: {what}\n" + (folder / "log").read_text()[-3000:]
        time.sleep(0.5)
