import time
from datetime import UTC, datetime, timedelta

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.feedback import app as app_module
from serving.feedback import store as store_module
from serving.feedback.app import create_app


@pytest.fixture
def client(store, serve):
    with httpx.Client(base_url=serve(create_app(store))) as opened:
        yield opened


@pytest.fixture
def send(client):
    def post(*lines):
        body = b"\n".join(line if isinstance(line, bytes) else line.model_dump_json().encode() for line in lines)
        return client.post("/events", content=body)

    return post


def test_a_batch_reports_new_known_and_wrong_rows(send, make_event):
    late = make_event("x", at=datetime.now(UTC) + timedelta(hours=1))
    answer = send(make_event(), b"{}", make_event(item=1), make_event(), b"not json", late).json()
    assert (answer["accepted"], answer["duplicates"]) == (2, 1)
    assert [row["row"] for row in answer["rejected"]] == [1, 4, 5]
    assert "prediction_id" in answer["rejected"][0]["reason"]
    assert "future" in answer["rejected"][2]["reason"]


def test_labels_are_judged_row_by_row_and_a_wrong_row_costs_no_other(client, send, make_event):
    send(make_event(), make_event(item=1))
    rows = [
        {"prediction_id": "r-0", "label": "red"},
        {"prediction_id": "r 0", "label": "red"},
        {"prediction_id": "r-1", "label": ""},
        "nonsense",
        {"prediction_id": "r-0", "label": "blue"},
        {"prediction_id": "r-9", "label": "blue", "source": "csv"},
        {"prediction_id": "r-1", "label": "red", "at": "2999-01-01T00:00:00Z"},
    ]
    answer = client.post("/labels", json={"labels": rows}).json()
    assert [row["result"] for row in answer["rows"]] == [
        "stored",
        "invalid",
        "invalid",
        "invalid",
        "contradicts",
        "waiting",
        "future",
    ]
    assert "prediction_id" in answer["rows"][1]["reason"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"labels": 3}', b"\xff", b'{"labels": ["x"'])
def test_a_label_body_that_is_no_list_is_refused(client, body):
    assert client.post("/labels", content=body).status_code == 400


def test_counts_come_back_as_rows(client, send, make_event):
    send(make_event(), make_event(item=1, label="blue"))
    client.post("/labels", json={"labels": [{"prediction_id": "r-0", "label": "red"}]})
    query = {"workload": "pills", "since": "2026-01-01T00:00:00Z", "slow_ms": 1.0}
    rows = {row["metric"]: (row["n"], row["k"]) for row in client.get("/counts", params=query).json()}
    assert rows["correct"] == (1, 1)
    assert rows["slow"] == (2, 2)
    assert rows["predicted/blue"] == (2, 1)
    assert client.get("/counts", params=query | {"until": "2026-01-01T00:00:00Z"}).json() == []
    assert client.get("/counts", params=query | {"since": "2026-01-01"}).status_code == 422


def test_a_batch_that_is_too_large_is_refused(client, send, make_event, monkeypatch):
    monkeypatch.setattr(app_module, "MAX_BODY", 1000)
    assert send(make_event(), make_event(item=1), make_event(item=2)).status_code == 413
    monkeypatch.setattr(app_module, "MAX_LABELS", 1)
    assert client.post("/labels", json={"labels": [{}, {}]}).status_code == 400


def test_a_database_that_does_not_answer_is_503_with_retry_after(tmp_path, monkeypatch, make_event, serve):
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.05)
    store = store_module.open_store(f"sqlite:///{tmp_path / 'f.db'}")
    body = make_event().model_dump_json()
    with httpx.Client(base_url=serve(create_app(store))) as client:
        with store.writing():
            answer = client.post("/events", content=body)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert client.post("/events", content=body).json()["accepted"] == 1
    store.engine.dispose()


def test_health_readiness_and_metrics(client, send, make_event):
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    send(make_event(), make_event(), b"?")
    client.post("/labels", json={"labels": [{"prediction_id": "r-0", "label": "red"}]})
    text = client.get("/metrics").text
    assert 'titrate_feedback_outcomes_total{outcome="right",workload="pills"} 1.0' in text
    for result in ("accepted", "duplicate", "rejected"):
        assert f'titrate_feedback_events_total{{result="{result}"}} 1.0' in text


def test_a_service_whose_tables_are_gone_is_not_ready(client, store):
    with store.engine.begin() as connection:
        connection.exec_driver_sql("drop table labels")
    assert client.get("/readyz").status_code in {500, 503}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300) | st.recursive(st.none() | st.text() | st.floats(), st.lists, max_leaves=5))
def test_garbage_is_answered_with_a_report_or_a_refusal(client, garbage):
    body = garbage if isinstance(garbage, bytes) else orjson.dumps({"labels": garbage})
    assert client.post("/events", content=body).status_code == 200
    assert client.post("/labels", content=body).status_code in {200, 400}


def test_the_service_forgets_what_is_older_than_it_keeps(store, serve, make_event, monkeypatch):
    monkeypatch.setattr(app_module, "FORGET_EVERY", 0.05)
    recent = make_event("recent", at=datetime.now(UTC) - timedelta(days=2))
    store.add_events([make_event("old", at=datetime.now(UTC) - timedelta(days=4)), recent])
    with httpx.Client(base_url=serve(create_app(store, keep_days=3))) as client:
        deadline = time.monotonic() + 20
        while "titrate_feedback_forgotten_total 1.0" not in client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        counts = client.get("/counts", params={"workload": "pills", "since": "2000-01-01T00:00:00Z"}).json()
    assert {row["n"] for row in counts if row["metric"] == "refused"} == {1}
