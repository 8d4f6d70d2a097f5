"""The events of the model file, against receivers that work, hang, refuse and are not there."""

import collections
import http.server
import json
import threading
import time
import uuid

import numpy as np
import pytest

from core.events import Event, prediction_id, sampled
from serving.triton import events
from serving.triton.events import Events, Settings, Share, usable
from tests.conftest import wait_until
from tests.unit.serving.triton.conftest import Request

FIXED = {"workload": "pills", "release": "ab" * 32, "model_version": "1"}


class Answers:
    """The answers to three items, the second of which is bad."""

    errors = (b"", b"too_large: 9 x 9", b"")
    label = np.array([[b"red"], [b""], ["grün".encode()]], dtype=object)
    probability = np.array([[0.9], [0.0], [0.4]], np.float32)
    labels = np.array([[b"red", b"blue"], [b"", b""], ["grün".encode(), b"red"]], dtype=object)
    probabilities = np.array([[0.9, 0.1], [0, 0], [0.4, 0.3]], np.float32)
    abstain = np.array([[False], [True], [True]])
    embedding = np.array([[1, 2.5], [0, 0], [-0.1, 1e-9]], np.float32)


class Receiver(http.server.ThreadingHTTPServer):
    """Answers as `answer` says, once it is told to."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Exchange)
        self.status, self.answer = 200, {"rejected": []}
        self.lines = []
        self.go = threading.Event()
        self.asked = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/events"


class Exchange(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.server.status
        self.server.asked.set()
        self.server.go.wait(30)
        if status == 200:
            self.server.lines += body.splitlines()
        answer = json.dumps(self.server.answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def emit(monkeypatch):
    """A function that makes Events to a URL, and the counts of what became of them."""
    monkeypatch.setattr(events, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(events, "BATCH_SECONDS", 0.02)
    monkeypatch.setattr(events, "CLOSE_SECONDS", 1.0)
    made, results = [], collections.Counter()

    def make(url, rate=1.0, arm="stable"):
        settings = Settings(url, rate, arm)
        made.append(Events(settings, FIXED, lambda image: {"mean": float(image.mean())}, note))
        return made[-1]

    def note(result, count):
        results[result] += count

    yield make, results
    for one in made:
        one.close()


def image(value):
    return np.full((4, 4, 3), value, np.uint8)


def take(one, *names, headers="{}"):
    """One request of three items for each name; returns the seconds that it cost."""
    began = time.perf_counter()
    for name in names:
        one.take([Request([], [], name, headers)], [0, 3], [image(1), image(3)], Answers(), began)
    return time.perf_counter() - began


def test_a_line_is_an_event_of_the_contract(emit, receiver):
    make, results = emit
    receiver.go.set()
    take(make(receiver.url), "r")
    wait_until(lambda: results["sent"] == 3)
    first, bad, third = (Event.model_validate_json(line) for line in receiver.lines)
    assert [first.prediction_id, bad.prediction_id] == [prediction_id("r", 0), prediction_id("r", 1)]
    assert (first.label, first.abstain, first.embedding, first.image) == ("red", False, (1.0, 2.5), {"mean": 1.0})
    assert first.probabilities == pytest.approx((0.9, 0.1))
    assert (bad.outcome, bad.label, bad.image, bad.embedding) == ("too_large", None, {}, None)
    assert (third.label, third.image, third.release, third.arm) == ("grün", {"mean": 3.0}, "ab" * 32, "stable")
    assert third.latency_ms >= 0


def test_headers_of_the_edge_give_arm_user_and_the_id_that_the_client_did_not(emit, receiver):
    make, results = emit
    receiver.go.set()
    given = {"X-Request-Id": "edge-1", "x-titrate-arm": "candidate", "x-titrate-user": "ff"}
    one = make(receiver.url)
    take(one, "", headers=json.dumps(given))
    take(one, "mine", headers=json.dumps(given))
    wait_until(lambda: results["sent"] == 6)
    found = [Event.model_validate_json(line) for line in receiver.lines]
    assert {(event.request_id, event.arm, event.user) for event in found} == {
        ("edge-1", "candidate", "ff"),
        ("mine", "candidate", "ff"),
    }


def test_the_copy_samples_what_the_contract_samples():
    share = Share(0.3, 0.0)
    ids = [uuid.UUID(int=i).hex for i in range(2000)]
    assert [share.takes(one, 1, 0.0) for one in ids] == [sampled(one, 0.3) for one in ids]


def test_above_the_limit_a_subset_is_left_and_the_rest_is_told():
    share, ids = Share(0.5, 0.0), [uuid.UUID(int=i).hex for i in range(4000)]
    before = {one for one in ids if share.takes(one, 1, 0.0)}
    found = {one: share.takes(one, 1, 1.0) for one in ids}
    after = {one for one, taken in found.items() if taken}
    assert after < before
    assert 15 <= len(after) <= 40  # 25 a second
    assert {one for one, taken in found.items() if taken is None} == before - after
    assert {one for one in ids if share.takes(one, 1, 1000.0)} == before, "after a quiet time all is as before"


def test_where_few_are_asked_the_share_is_raised_until_a_window_holds_enough():
    """1 % of one request in ten seconds would be 22 events in six hours; 100 are needed, about one in 22 requests."""
    share, taken = Share(0.01, 0.0), 0
    for number in range(6 * 360):
        taken += bool(share.takes(uuid.UUID(int=number).hex, 1, 10.0 * number))
    assert 75 <= taken <= 130
    busy = Share(0.01, 0.0)
    taken = sum(bool(busy.takes(uuid.UUID(int=number).hex, 1, number / 50)) for number in range(20_000))
    assert 150 <= taken <= 250, "enough come at the given share"


def test_nothing_is_sampled_where_nothing_is_asked_for():
    share = Share(0.0, 0.0)
    assert not any(share.takes(uuid.UUID(int=number).hex, 1, 100.0 * number) for number in range(200))


def test_a_receiver_that_hangs_costs_nothing_but_events(emit, receiver, monkeypatch):
    monkeypatch.setattr(events, "BATCH", events.UNDESCRIBED // 2)  # what waits for its description is sent in several
    make, results = emit
    one = make(receiver.url)
    take(one, "first")
    assert receiver.asked.wait(10), "it hangs now"
    names = [f"r{i}" for i in range(2000)]
    assert take(one, *names) / len(names) < 1e-3, "an answer would have waited"
    wait_until(lambda: not one._items)
    assert len(one._lines) <= events.UNSENT
    receiver.go.set()
    wait_until(lambda: results.total() == 3 * 2001)
    assert results["sent"] == len(receiver.lines)
    assert results["dropped"] > 0
    assert results["sent"] > events.BATCH


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_receiver_that_is_busy_gets_the_same_events_later(emit, receiver, status):
    make, results = emit
    receiver.go.set()
    receiver.status = status
    take(make(receiver.url), "a", "b")
    assert receiver.asked.wait(10)
    receiver.status = 200
    wait_until(lambda: results["sent"] == 6)
    found = [json.loads(line)["prediction_id"] for line in receiver.lines]
    assert found == [f"{name}-{item}" for name in "ab" for item in range(3)]
    assert results == collections.Counter(sent=6)


def test_a_receiver_that_is_not_there_is_asked_again(emit, receiver):
    make, results = emit
    receiver.server_close()
    one = make(receiver.url)
    take(one, "a")
    wait_until(lambda: not one._items)
    time.sleep(0.1)
    assert results == collections.Counter()
    one.close()
    assert results == collections.Counter(dropped=3)


def test_refused_events_are_counted_and_not_sent_again(emit, receiver):
    make, results = emit
    receiver.go.set()
    receiver.answer = {"rejected": [{"row": 1, "reason": "no"}]}
    one = make(receiver.url)
    take(one, "a")
    wait_until(lambda: results.total() == 3)
    assert results == collections.Counter(sent=2, refused=1)
    receiver.status = 413
    take(one, "b")
    wait_until(lambda: results.total() == 6)
    assert results == collections.Counter(sent=2, refused=4)


@pytest.mark.parametrize(("url", "rate"), [("", 1.0), ("http://127.0.0.1:9/events", 0.0)])
def test_without_receiver_or_rate_nothing_is_looked_at(emit, url, rate):
    make, results = emit
    make(url, rate).take([None], None, None, None, 0.0)
    assert results == collections.Counter()


def test_an_id_that_the_contract_refuses_is_replaced_by_its_hash():
    assert usable("plain") == "plain"
    assert usable("with space") == usable("with space") != usable("another space")
    assert len(usable("ü" * 3)) == len(usable("x" * 191)) == 64
    assert usable("") != usable("")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TITRATE_EVENTS_URL", "ftp://host/events"),
        ("TITRATE_EVENTS_URL", "http:///events"),
        ("TITRATE_EVENTS_RATE", "often"),
        ("TITRATE_EVENTS_RATE", "1.5"),
        ("TITRATE_EVENTS_RATE", "nan"),
    ],
)
def test_wrong_settings_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} = '{value}'"):
        Settings.of({"TITRATE_EVENTS_URL": "http://host/events", name: value})
    assert Settings.of(Settings("http://h/e", 0.5, "a").environ()) == Settings("http://h/e", 0.5, "a")
