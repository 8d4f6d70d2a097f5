"""Every query of every dashboard, asked of a real Prometheus that scrapes a stack with traffic."""

import time
import uuid

import httpx
import pytest
import yaml

from core.files import write_atomic
from serving.triton.server import free_ports
from tests.colours import picture
from tests.prometheus import command, query, running
from tests.stack_home import Colours, until
from titrate.loop.settings import folder as settings_folder
from titrate.observability.__main__ import ladders
from titrate.observability.dashboards import PANELS
from titrate.observability.rules import rules
from titrate.stack.control import down, up
from titrate.stack.ports import home_ports
from titrate.stack.state import set_stable

REQUESTS, ROUNDS = 60, 12
"""The accuracy is told from 100 labels on; of a burst, a loaded model sheds events."""
WITHIN = 40.0


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """Its address, with the project's rules over the metrics of a stack that answered and was told its labels."""
    colours = Colours(tmp_path_factory.mktemp("stack"))
    set_stable(colours.home, "pills", colours.releases[0])
    folder = tmp_path_factory.mktemp("prometheus")
    made = rules(ladders())
    for group in made["groups"]:
        group["interval"] = "1s"  # budgets, every 5 minutes
    (folder / "rules.yaml").write_text(yaml.safe_dump(made))
    write_atomic(settings_folder(colours.home, "pills") / "settings.json", '{"watch": {"every_seconds": 1}}')
    up(colours.home)
    try:
        port = free_ports().http
        with running(folder, [command(folder, port, _config(colours))]):
            until(lambda: len(query(f"http://127.0.0.1:{port}", "up == 1")) == 5, WITHIN)
            _ask(colours, f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
    finally:
        down(colours.home)


def _config(colours):
    ports = home_ports(colours.home)
    triton = int(colours.triton().address.rpartition(":")[2]) + 2
    jobs = {
        "envoy": (ports.admin, "/stats/prometheus"),
        "triton": (triton, "/metrics"),
        "gateway": (ports.gateway, "/metrics"),
        "feedback": (ports.feedback, "/metrics"),
        "loop": (ports.loop, "/metrics"),
    }
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": name, "metrics_path": path, "static_configs": [{"targets": [f"127.0.0.1:{number}"]}]}
            for name, (number, path) in jobs.items()
        ],
    }


def _ask(colours, prometheus):
    """Requests of each kind in rounds: a counter that appears has no increase before its second value."""
    with httpx.Client(timeout=30) as client:
        for _ in range(ROUNDS):
            asked = [uuid.uuid4().hex for _ in range(REQUESTS)]
            for request in asked:
                assert colours.ask(client, headers={"x-request-id": request})[0] == 200
            assert client.post(f"{colours.url}/v1/predict", files={"image": picture("blue")}).is_success
            assert client.post(f"{colours.url}/v1/predict", files={"image": b"none"}).status_code == 422
            time.sleep(2)  # events leave in batches
            rows = [{"prediction_id": f"{request}-0", "label": "blue"} for request in asked]
            assert client.post(f"{colours.url}/v1/labels", json={"labels": rows}).is_success
            if query(prometheus, "titrate:accuracy:ratio"):
                return


@pytest.mark.parametrize("name", PANELS)
def test_every_panel_shows_something(prometheus, name):
    queries = {(panel.title, text) for panel in PANELS[name] for text in panel.queries.values()}
    deadline = time.monotonic() + WITHIN
    while empty := {one for one in queries if not _numbers(prometheus, one[1])}:
        assert time.monotonic() < deadline, empty
        time.sleep(1)


def _numbers(prometheus, text):
    return [one for one in query(prometheus, text) if one["value"][1] != "NaN"]
