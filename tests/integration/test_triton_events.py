"""Events from a real Triton to the real feedback service: what arrives, and that no answer waits for it."""

import asyncio
import contextlib
import threading
import urllib.request
import uuid

import numpy as np
import pytest
import sqlalchemy as sa
import tritonclient.http

from serving.feedback.app import create_app
from serving.feedback.schema import events
from serving.feedback.store import open_store
from serving.triton.events import Settings
from serving.triton.server import running
from tests.colours import RELEASE, picture, write_repository
from tests.conftest import served, wait_until
from workloads.pills import preprocess
from workloads.pills.features import FEATURE_NAMES, statistics

IMAGE = picture((200, 30, 60), 48)


class Hanging:
    """An ASGI app that takes requests and does not answer them until `go` is set."""

    def __init__(self, app):
        self.app, self.go, self.asked = app, threading.Event(), threading.Event()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            self.asked.set()
            while not self.go.is_set():
                await asyncio.sleep(0.02)
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return open_store(f"sqlite:///{tmp_path_factory.mktemp('feedback')}/events.db")


@pytest.fixture(scope="module")
def receiver(store):
    return Hanging(create_app(store))


@pytest.fixture(scope="module")
def emitting(triton_cache, tmp_path_factory, receiver):
    """A Triton whose events go to the receiver."""
    with served(receiver) as url:
        to = Settings(f"{url}/events", 1.0, "stable")
        with running(write_repository(tmp_path_factory.mktemp("emitting")), triton_cache, RELEASE, to) as server:
            yield server
        receiver.go.set()


def predict(server, name, *contents):
    with contextlib.closing(tritonclient.http.InferenceServerClient(server.http_url.removeprefix("http://"))) as client:
        tensor = client_input(contents)
        headers = {"x-titrate-arm": "candidate", "x-titrate-user": "f" * 64}
        return client.infer("pills", [tensor], request_id=name, headers=headers)


def client_input(contents):
    tensor = tritonclient.http.InferInput("image", [len(contents), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(contents, dtype=object)[:, None])
    return tensor


def results(server):
    """What became of the events, by result."""
    with urllib.request.urlopen(server.metrics_url) as page:
        lines = [line for line in page.read().decode().splitlines() if line.startswith("titrate_events_total{")]
    return {line.split('result="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}


def stored(store):
    with store.reading() as connection:
        return connection.execute(sa.select(events).order_by(events.c.request_id, events.c.item)).all()


def test_an_event_is_the_answer_with_its_embedding_and_the_statistics_of_its_image(emitting, receiver, store):
    receiver.go.set()
    name = f"zz-{uuid.uuid4().hex}"
    answer = predict(emitting, name, IMAGE, b"junk")
    wait_until(lambda: [row for row in stored(store) if row.request_id == name][1:])
    good, bad = [row for row in stored(store) if row.request_id == name]
    assert (good.prediction_id, good.release, good.arm, good.user) == (f"{name}-0", RELEASE, "candidate", "f" * 64)
    assert good.label == answer.as_numpy("label")[0, 0].decode()
    assert np.frombuffer(good.embedding, "<f4").tolist() == answer.as_numpy("embedding")[0].tolist()
    assert good.probabilities == pytest.approx(answer.as_numpy("probabilities")[0].tolist())
    expected = statistics(preprocess.decode(IMAGE, 32)).tolist()
    assert good.image == pytest.approx(dict(zip(FEATURE_NAMES, expected, strict=True)))
    assert (bad.outcome, bad.label, bad.embedding) == ("not_an_image", None, None)


def test_no_answer_waits_for_a_receiver_that_hangs_and_nothing_is_lost_uncounted(emitting, receiver, store):
    receiver.go.clear()
    receiver.asked.clear()
    before, sent = len(stored(store)), 0
    while not receiver.asked.is_set():
        predict(emitting, f"a-{sent}", IMAGE)
        sent += 1
    for _ in range(300):
        predict(emitting, uuid.uuid4().hex, IMAGE)
    assert len(stored(store)) == before, "300 were answered while the receiver hung"
    receiver.go.set()
    wait_until(lambda: sum(results(emitting).values()) == before + sent + 300)
    assert results(emitting).get("refused", 0) == 0
    assert len(stored(store)) == results(emitting)["sent"] > before
