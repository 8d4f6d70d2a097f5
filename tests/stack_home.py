"""A home with releases of the colour model, its stack, and clients that ask it without pause."""

import contextlib
import threading
import time

import httpx
import numpy as np
import psutil

from core import reference
from core.home import Home
from core.objects import Store
from core.release import seal
from core.signing import ensure_keys
from serving.triton.server import is_alive
from tests.colours import LABELS, picture, write_repository
from titrate.predict import HEADER, decode, encode
from titrate.stack.control import status
from titrate.stack.ports import home_ports
from titrate.stack.services import MARK
from workloads.pills.features import FEATURE_NAMES

BACK_WITHIN = 40.0
"""Seconds; 2 to 3 on two idle cores, but these tests may share them."""


def _write_reference(folder):
    """Of colours drawn at random: what the tests ask about is unlike it."""
    rows, random = 120, np.random.default_rng(0)
    description = reference.Reference(
        version=reference.VERSION,
        dataset="none",
        samples=tuple(map(str, range(rows))),
        labels=tuple(LABELS),
        statistics=FEATURE_NAMES,
        embedding_size=len(LABELS),
    )
    values = [random.normal(size=(rows, size)).astype(np.float32) for size in (len(LABELS), len(FEATURE_NAMES))]
    reference.write(folder, description, *values, np.arange(rows) % len(LABELS))


class Colours:
    """A home with two releases of the colour model that differ in when they abstain."""

    def __init__(self, root):
        self.home = Home(root / "ho'me with spaces")
        private, _ = ensure_keys(self.home.keys)
        self.releases = []
        for threshold in (0.5, 0.99999):
            folder = write_repository(root / str(threshold), abstain_below=threshold)
            _write_reference(folder / reference.FOLDER)
            digest = seal(folder, private)
            Store(str(self.home.objects)).publish(folder, f"releases/{digest}")
            self.releases.append(digest)

    @property
    def url(self):
        """Where the stack answers."""
        return f"http://127.0.0.1:{home_ports(self.home).edge}"

    def ask(self, client, headers=None, colour="blue"):
        """(status, release that answered, label)."""
        body, length = encode([picture(colour)])
        told = {HEADER: str(length), **(headers or {})}
        answer = client.post(f"{self.url}/v2/models/pills/infer", content=body, headers=told)
        if answer.status_code != 200:
            return answer.status_code, answer.text, ""
        outputs = decode(answer.content, int(answer.headers[HEADER]))
        assert outputs["release"] == [answer.headers["x-titrate-release"]]
        return answer.status_code, outputs["release"][0], outputs["label"][0]

    def processes(self):
        """Everything that belongs to this home's stack."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.home.root) and is_alive(process.pid):
                    found.append(process.pid)
        return found

    def triton(self):
        """The status of the only model server."""
        [one] = [service for service in status(self.home) if service.name.startswith("triton")]
        return one


@contextlib.contextmanager
def traffic(colours, clients=4):
    """Clients that ask without pause until nobody listens; yields the list of their answers."""
    answers, stop = [], threading.Event()

    def ask():
        closing = ["close"]  # what the last answer said of its connection; the first request has a new one as well
        hooks = {"response": [lambda answer: closing.append(answer.headers.get("connection", ""))]}
        with httpx.Client(timeout=60, event_hooks=hooks) as client, contextlib.suppress(httpx.ConnectError):
            while not stop.is_set():
                try:
                    answers.append(colours.ask(client))
                except httpx.ReadError:
                    # A new connection that the kernel took for a listener which is closed before it accepts: like one
                    # that is refused. On a connection that had answers, and did not say close, it is a lost request.
                    assert closing[-1] == "close"
                    return

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def until(condition, seconds=BACK_WITHIN):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)
    return found
