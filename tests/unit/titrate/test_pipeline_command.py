"""`titrate pipeline` against a KFP API in memory, through KFP's own client."""

import json
import re

import pytest
import yaml
from click.testing import CliRunner

from core.errors import PermanentError, TemporaryError, UserError
from tests.kfp_api import kfp_api
from titrate import kubeflow
from titrate.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def api(monkeypatch):
    for name in (kubeflow.TOKEN, kubeflow.COOKIES, kubeflow.TOKEN_FILE):
        monkeypatch.delenv(name, raising=False)
    with kfp_api() as one:
        yield one


@pytest.fixture
def ask(api, tmp_path):
    """A function that runs `titrate pipeline WORDS` for a platform whose API is `api`."""
    file = tmp_path / "platform.json"

    def ask(*words, **changes):
        facts = {
            "endpoint": api.url,
            "namespace": "team",
            "service_account": "runner",
            "store": "s3://titrate",
            "tracking": "http://mlflow:5000",
            "claim": "titrate-work",
            "keys": "titrate-signing",
            **changes,
        }
        file.write_text(json.dumps(facts))
        return CliRunner().invoke(main, ["pipeline", *words, "--platform", str(file)])

    return ask


DATA = ("--data", "/var/lib/titrate/data/pills")


def test_a_run_carries_its_graph_its_data_and_its_recipe(api, ask):
    done = ask("submit", "pills", *DATA, "--set", "train.images=500", "--name", "first")
    assert done.exit_code == 0, done.output
    assert done.stdout == "run runs-1\n" and "/#/runs/details/runs-1" in done.stderr
    [run], [experiment] = api.runs.values(), api.experiments.values()
    assert (experiment["display_name"], experiment["namespace"]) == ("titrate", "team")
    assert (run["display_name"], run["experiment_id"], run["service_account"]) == ("first", "experiments-1", "runner")
    given = run["runtime_config"]["parameters"]
    assert given["source"] == DATA[1]
    assert json.loads(given["config"])["train"]["images"] == 500
    graph = run["pipeline_spec"]
    assert set(graph["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]) == {"source", "config", "nproc"}
    assert graph["platform_spec"]["platforms"]["kubernetes"]


def test_a_second_run_joins_the_experiment(api, ask):
    ask("submit", "pills", *DATA)
    ask("submit", "pills", *DATA)
    assert len(api.experiments) == 1 and len(api.runs) == 2


def test_a_schedule_runs_again_and_again_and_makes_up_for_nothing(api, ask):
    done = ask("submit", "pills", *DATA, "--cron", "0 0 2 * * 0")
    assert done.stdout == "schedule recurringruns-1\n"
    [made] = api.recurring.values()
    assert made["trigger"]["cron_schedule"]["cron"] == "0 0 2 * * 0"
    assert made["no_catchup"] is True and made["mode"] == "ENABLE"
    refused = ask("submit", "pills", *DATA, "--cron", "0 0 2 * * 0", "--wait")
    assert refused.exit_code == 2 and "a schedule never ends" in refused.output


def test_status_tells_each_task_and_its_error(api, ask):
    ask("submit", "pills", *DATA)
    failed = {"code": 2, "message": "accuracy >= 0.90: 0.61"}
    api.runs["runs-1"] |= {
        "state": "FAILED",
        "error": {"code": 2, "message": "gate failed"},
        "run_details": {
            "task_details": [
                {"display_name": "train", "state": "SUCCEEDED"},
                {"display_name": "gate", "state": "FAILED", "error": failed},
            ]
        },
    }
    told = ask("status", "runs-1").output
    assert "pills runs-1: failed: gate failed" in told
    assert "train  succeeded" in told and "accuracy >= 0.90: 0.61" in told
    assert "runs-1" in ask("status").output
    assert json.loads(ask("status", "runs-1", "--json").output)["tasks"][1]["error"] == "accuracy >= 0.90: 0.61"
    unknown = ask("status", "runs-9")
    assert unknown.exit_code == UserError.exit_code and "knows no run 'runs-9'" in unknown.output


def test_waiting_ends_with_the_run_and_its_exit_code(api, ask, monkeypatch):
    states = iter(["RUNNING", "RUNNING", "SUCCEEDED", "RUNNING", "FAILED"])
    answer = api.answer

    def next_state(method, path, query, body):
        status, found = answer(method, path, query, body)
        return status, found | ({"state": next(states)} if method == "GET" and "run_id" in found else {})

    monkeypatch.setattr(api, "answer", next_state)
    monkeypatch.setattr(kubeflow, "POLL_SECONDS", 0.01)
    good = ask("submit", "pills", *DATA, "--wait")
    assert good.exit_code == 0
    assert good.output.count("running") == 1 and "succeeded" in good.output
    bad = ask("submit", "pills", *DATA, "--wait")
    assert bad.exit_code == PermanentError.exit_code and "ended as FAILED: KFP gives no reason" in bad.output


@pytest.mark.parametrize(("times", "code"), [(2, 0), (3, TemporaryError.exit_code)])
def test_waiting_outlasts_an_api_that_is_away_for_a_while(api, ask, monkeypatch, times, code):
    away = iter([503] * times)
    answer = api.answer

    def sometimes(method, path, query, body):
        status, found = answer(method, path, query, body)
        if method == "GET" and "run_id" in found:
            status, found = next(away, 200), found | {"state": "SUCCEEDED"}
        return status, found

    monkeypatch.setattr(api, "answer", sometimes)
    monkeypatch.setattr(kubeflow, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(kubeflow, "PATIENCE", 3)
    assert ask("submit", "pills", *DATA, "--wait").exit_code == code


def test_credentials_are_those_of_kfps_sdk(api, ask, monkeypatch, tmp_path):
    api.token = "secret"
    refused = ask("status")
    assert refused.exit_code == UserError.exit_code
    assert f"set {kubeflow.TOKEN} to a token" in refused.output
    file = tmp_path / "token"
    file.write_text("secret\n")
    monkeypatch.setenv(kubeflow.TOKEN_FILE, str(file))
    assert ask("status").output == "no runs\n"
    file.unlink()
    missing = ask("status")
    assert missing.exit_code == UserError.exit_code and "which cannot be read: No such file" in missing.output
    monkeypatch.delenv(kubeflow.TOKEN_FILE)
    monkeypatch.setenv(kubeflow.TOKEN, "secret")
    assert ask("status").exit_code == 0


@pytest.mark.parametrize(
    ("status", "error", "why"),
    [
        (403, UserError, "refuses this: .*not today"),
        (400, PermanentError, "refuses this: .*not today"),
        (503, TemporaryError, "cannot do this now: .*not today"),
    ],
)
def test_what_the_api_refuses_is_told_without_a_traceback(api, ask, status, error, why):
    api.refuses = status
    done = ask("submit", "pills", *DATA)
    assert done.exit_code == error.exit_code
    assert re.search(why, done.output)


def test_an_api_that_breaks_off_is_no_traceback(api, ask, monkeypatch):
    health = api.answer

    def broken(method, path, query, body):
        if path.endswith("/healthz"):
            return health(method, path, query, body)
        raise ConnectionAbortedError

    monkeypatch.setattr(api, "answer", broken)
    monkeypatch.setattr("socketserver.BaseServer.handle_error", lambda *_: None)
    done = ask("status")
    assert done.exit_code == TemporaryError.exit_code and "broke off" in done.output


def test_what_is_no_kfp_api_is_told(api, ask):
    other = ask("status", endpoint=f"{api.url}/other")
    assert other.exit_code == UserError.exit_code and "is no KFP API" in other.output
    gone = ask("status", endpoint="http://127.0.0.1:9")
    assert gone.exit_code == TemporaryError.exit_code and "does not answer" in gone.output


def test_a_platform_that_is_not_complete_names_what_is_missing(ask):
    done = ask("status", claims="x")
    assert done.exit_code == UserError.exit_code and "unknown key 'claims'; did you mean 'claim'" in done.output


def test_the_graph_is_written_for_the_dashboard(ask, tmp_path):
    target = tmp_path / "graph.yaml"
    assert ask("compile", "pills", "--recipe", "mobilenet_v3", "-o", str(target)).exit_code == 0
    graph, platform = yaml.safe_load_all(target.read_text())
    asked = graph["root"]["inputDefinitions"]["parameters"]
    assert json.loads(asked["config"]["defaultValue"])["recipe"] == "mobilenet_v3"
    assert platform["platforms"]["kubernetes"]
