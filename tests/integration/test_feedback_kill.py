"""A killed service loses no acknowledged event."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import httpx
import pytest
import sqlalchemy as sa

from serving.feedback import schema
from serving.feedback.store import open_store


def event(request):
    return {
        "prediction_id": f"{request}-0",
        "request_id": request,
        "item": 0,
        "workload": "pills",
        "release": "f" * 64,
        "model_version": "1",
        "arm": "stable",
        "at": datetime.now(UTC).isoformat(),
        "outcome": "ok",
        "latency_ms": 1.0,
    }


def _wait_ready(process, url):
    deadline = time.monotonic() + 30
    with httpx.Client(base_url=url) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                assert client.get("/readyz").status_code == 200
                return
            except httpx.ConnectError:
                time.sleep(0.02)
    raise AssertionError("the service did not start")


@pytest.fixture
def service(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    database = f"sqlite:///{tmp_path / 'feedback.db'}"
    words = [sys.executable, "-m", "serving.feedback", "--database", database, "--port", str(port)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_ready(process, url)
        yield process, url, database
    finally:
        process.kill()
        process.wait()


def test_kill_9_loses_no_acknowledged_event(service):
    process, url, database = service
    acknowledged = set()
    enough = threading.Event()

    def send(worker):
        with httpx.Client(base_url=url) as client:
            for number in itertools.count():
                names = [f"w{worker}-{number}-{i}" for i in range(20)]
                try:
                    answer = client.post("/events", content="\n".join(json.dumps(event(name)) for name in names))
                except httpx.TransportError:
                    return
                assert answer.json()["accepted"] == 20
                acknowledged.update(names)
                if len(acknowledged) >= 400:
                    enough.set()

    threads = [threading.Thread(target=send, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    assert enough.wait(30)
    os.kill(process.pid, signal.SIGKILL)
    for thread in threads:
        thread.join()
    store = open_store(database)
    with store.reading() as connection:
        kept = set(connection.execute(sa.select(schema.events.c.request_id)).scalars())
    store.engine.dispose()
    assert acknowledged <= kept
    assert len(kept) % 20 == 0  # a batch is there as a whole or not at all
