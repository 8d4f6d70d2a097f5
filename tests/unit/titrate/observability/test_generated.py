"""What is generated is what is committed; what it names exists."""

import re
import subprocess

import pytest
import yaml

from tests.promtool import tool
from titrate.observability import sources
from titrate.observability.__main__ import ROOT, generated, ladders
from titrate.observability.catalogue import BORROWED, catalogue
from titrate.observability.rules import objectives, rules
from titrate.observability.spans import span

FLOORS = ("core", "serving", "components", "titrate")
RULES = rules(ladders())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]


@pytest.mark.parametrize("name", sorted(generated()))
def test_committed_file_is_the_generated_one(name):
    assert (ROOT / name).read_text() == generated()[name], "run `make observability`"


def test_every_alert_has_its_section_and_every_section_its_alert():
    page, _ = ALERTS[0]["annotations"]["runbook_url"].split("#")
    sections = re.findall(r"^## (Titrate\w+)$", (ROOT / page).read_text(), re.M)
    assert sorted(sections) == sorted({rule["alert"] for rule in ALERTS})
    for rule in ALERTS:
        assert rule["annotations"]["runbook_url"] == f"{page}#{rule['alert'].lower()}"


def _sources() -> str:
    files = [path for floor in FLOORS for path in (ROOT / floor).rglob("*.py") if "observability" not in path.parts]
    return "\n".join(path.read_text() for path in files)


def test_every_metric_that_a_rule_reads_has_a_source():
    named = set(re.findall(r"\btitrate_\w+", str([rule["expr"] for g in RULES["groups"] for rule in g["rules"]])))
    text = _sources()
    exported = {name for name in named if f'"{name}"' in text}
    assert named == exported


def test_every_metric_that_the_code_declares_is_in_the_table():
    declared = set(re.findall(r'(?i:counter|gauge|histogram)\(\s*"(titrate_\w+)"', _sources()))
    assert len(declared) >= 10
    assert declared <= {one.name for one in catalogue()}


def test_names_follow_the_conventions_of_prometheus():
    lines = []
    for one in set(catalogue()) - set(BORROWED):
        labels = ",".join(f'{label}="x"' for label in one.labels)
        ends = ["_bucket", "_sum", "_count"] if one.kind == "histogram" else [""]
        lines += [f"# HELP {one.name} {one.meaning}", f"# TYPE {one.name} {one.kind}"]
        lines += [f"{one.name}{end}{{{labels}}} 1".replace("_bucket{", '_bucket{le="+Inf",') for end in ends]
    text = "\n".join(lines) + "\n"
    line = [tool("promtool"), "check", "metrics"]
    for sent, accepted in ((text, True), (text.replace("titrate_batches_total", "titrate_batches"), False)):
        done = subprocess.run(line, input=sent, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is accepted, done.stdout + done.stderr


def test_every_recorded_series_that_an_alert_reads_is_recorded():
    recorded = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
    assert set(re.findall(r"titrate:[\w:]+", str([rule["expr"] for rule in ALERTS]))) <= recorded


def test_no_quantile_without_rate_and_no_increase_of_a_gauge():
    """The two formulas of the seeds that never fire (X03, X04)."""
    text = str(RULES)
    assert re.findall(r"histogram_quantile\(0\.\d+, sum by \(le\) \(rate\(\w+_bucket", text)
    assert len(re.findall("histogram_quantile", text)) == len(re.findall(r"sum by \(le\) \(rate\(\w+_bucket", text))
    assert not re.findall(rf"(increase|rate)\({sources.DRIFT}", text)


def test_promtool_and_amtool_accept_the_files():
    for words in (["promtool", "check", "rules", "rules.yaml"], ["amtool", "check-config", "alertmanager.yaml"]):
        line = [tool(words[0]), *words[1:-1], str(ROOT / "charts/titrate/files" / words[-1])]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_no_receiver_carries_a_credential():
    text = (ROOT / "charts/titrate/files/alertmanager.yaml").read_text()
    keys = set(re.findall(r"(\w*(?:key|password|secret|api_url)\w*):", text))
    assert keys and all(key.endswith("_file") for key in keys)
    assert yaml.safe_load(text)["route"]["receiver"]


@pytest.mark.parametrize(
    ("seconds", "pace", "words"),
    [(5400, 1, "1h30m"), (300, 60, "5s"), (0, 1, "0s"), (84_600, 1, "23h30m"), (90, 60, "1s500ms")],
)
def test_spans_are_spelled_as_prometheus_does(seconds, pace, words):
    assert span(seconds, pace) == words


def test_strictest_ladder_rules_the_shared_edge():
    one = ladders()["pills"]
    other = one.model_copy(update={"availability": 0.99, "latency": one.latency.model_copy(update={"p99_ms": 500.0})})
    found = {o.name: o for o in objectives([one, other])}
    assert found["errors"].share == pytest.approx(0.001)
    assert 'le="500"' in found["slow_p99"].records(1)[0]["expr"]
