"""The events that leave the model inside Triton (core/events.py has their contract). Copied into every release.

A sampled request costs the answering thread a look at its id and an append to a queue. Two threads do the rest: one
describes (image statistics, JSON), one posts. Whatever the receiver does, slow, hanging or gone, the queues keep their
size: an event is dropped, and counted. At most PER_SECOND events leave each process: beyond it the share is
lowered, and as the hash of the id decides, a lower share keeps a subset, the same one in every arm. Where so few are
asked that WINDOW would hold fewer than LEAST events at the given share, it is raised (X05).
"""

import base64
import collections
import contextlib
import hashlib
import http.client
import json
import re
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

PER_SECOND = 25.0
"""Events of one process; the statistics of one cost 0.4 ms of CPU at 96 px and 1.6 ms at 224 px: 1 to 4 % of a core."""
LEAST, WINDOW = 100, 6 * 3600.0
"""Events that drift and quality need at least, and the seconds in which they need them (M06, M07)."""
MINUTE, MINUTES = 60.0, 60
"""Seconds after which the pace of requests is told anew, and how many such stretches count."""
UNDESCRIBED, UNSENT = 64, 2000
"""Longest queues: images wait in the first (150 kB each at 224 px), lines in the second (4 kB each)."""
BATCH = 200
BATCH_SECONDS = 0.5
TIMEOUT = 5.0
"""Seconds that the receiver has for each step of an exchange."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
CLOSE_SECONDS = 2.0
"""At the end, for what is still queued."""
USABLE_ID = re.compile(r"[\x21-\x7e]{1,190}")
"""So that a prediction id, which adds the item's number, is an id too."""
OK = "ok"
RESULTS = ("sent", "dropped", "refused", "shed")
"""What becomes of a sampled item: taken by the receiver, lost to a full queue, refused by the receiver, above
PER_SECOND."""

Note = Callable[[str, int], None]


class Settings(NamedTuple):
    """Where events go, and how many."""

    url: str
    """The receiver's `POST /events`; empty: no events."""
    rate: float
    """Share of the requests, 0..1."""
    arm: str
    """Of this server, where no header of the edge says it."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Settings":
        """From TITRATE_EVENTS_URL, TITRATE_EVENTS_RATE and TITRATE_ARM; raises ValueError that names the wrong one."""
        url, text = environ.get("TITRATE_EVENTS_URL", ""), environ.get("TITRATE_EVENTS_RATE", "1")
        parts = urllib.parse.urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError(f"TITRATE_EVENTS_URL = {url!r}: give http://HOST:PORT/events")
        try:
            rate = float(text)
        except ValueError:
            rate = -1.0
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"TITRATE_EVENTS_RATE = {text!r}: give a share between 0 and 1")
        return cls(url, rate, environ.get("TITRATE_ARM", ""))

    def environ(self) -> dict[str, str]:
        """The variables that `of` reads."""
        return {"TITRATE_EVENTS_URL": self.url, "TITRATE_EVENTS_RATE": str(self.rate), "TITRATE_ARM": self.arm}


class Sampled(NamedTuple):
    """One request whose items become events."""

    request_id: str
    arm: str
    user: str | None


class Item(NamedTuple):
    """One item, before it is described; the arrays are rows of the answers, the image is uint8 [s, s, 3] or None."""

    of: Sampled
    number: int
    at: float
    latency: float
    answers: Any
    row: int
    image: Any


class Share:
    """Which requests leave events: those whose hash is low enough, as many as PER_SECOND allows and LEAST asks for."""

    def __init__(self, rate: float, now: float) -> None:
        self._least = self._rate = self._share = rate
        self._began = self._paced = now
        self._seen = self._asked = 0
        self._past: collections.deque[tuple[int, float]] = collections.deque(maxlen=MINUTES)

    def takes(self, request_id: str, items: int, now: float) -> bool | None:
        """Whether the request is sampled; None when it would be, were there fewer."""
        self._pace(items, now)
        if now - self._began >= 1.0:
            allowed = PER_SECOND * (now - self._began)
            self._share = self._rate * min(1.0, allowed / max(self._seen, 1))
            self._began, self._seen = now, 0
        hashed = int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], "big")
        if hashed >= self._rate * 2**64:
            return False
        self._seen += items
        return True if hashed < self._share * 2**64 else None

    def _pace(self, items: int, now: float) -> None:
        """Once a minute: the share at which WINDOW would hold LEAST events, if that is more than what was asked for."""
        if now - self._paced >= MINUTE:
            self._past.append((self._asked, now - self._paced))
            asked, seconds = (sum(column) for column in zip(*self._past, strict=True))
            needed = LEAST * seconds / (WINDOW * max(asked, 1))
            self._rate = self._share = max(self._least, min(1.0, needed)) if self._least else 0.0
            self._paced, self._asked = now, 0
        self._asked += items


class Events:
    """The events of one process of one release. `statistics` maps an image to its numbers, by name."""

    def __init__(
        self, settings: Settings, fixed: Mapping[str, str], statistics: Callable[[Any], Mapping[str, float]], note: Note
    ) -> None:
        self._settings, self._fixed = settings, dict(fixed)
        self._statistics, self._note = statistics, note
        self._share = Share(settings.rate, time.monotonic())
        self._items: collections.deque[Item] = collections.deque()
        self._lines: collections.deque[bytes] = collections.deque()
        self._arrived, self._closed = threading.Event(), threading.Event()
        self._sender = Sender(settings.url)
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._describe_all, self._send_all)]
        for thread in self._threads if settings.url else ():
            thread.start()

    def take(
        self, requests: Sequence[Any], ends: Sequence[int], images: Sequence[Any], answers: Any, began: float
    ) -> None:
        """Queue the items of the sampled requests: request i has the rows ends[i] to ends[i + 1] of `answers`;
        `images` are those of the rows without an error, in order. Never waits."""
        if not self._settings.url or not self._settings.rate:
            return
        now, at = time.perf_counter(), time.time()
        for number, request in enumerate(requests):
            if sampled := self._sampled(request, ends[number + 1] - ends[number], now):
                for row in range(ends[number], ends[number + 1]):
                    bad_before = sum(map(bool, answers.errors[:row]))
                    image = None if answers.errors[row] else images[row - bad_before]
                    self._queue(Item(sampled, row - ends[number], at, now - began, answers, row, image))

    def close(self) -> None:
        """Send what is queued, as far as CLOSE_SECONDS allow."""
        self._closed.set()
        self._arrived.set()
        deadline = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads if self._settings.url else ():
            thread.join(max(0.0, deadline - time.monotonic()))

    def _sampled(self, request: Any, items: int, now: float) -> Sampled | None:
        given = request.request_id()
        headers = {} if given else forwarded(request)
        name = usable(given or headers.get("x-request-id", ""))
        taken = self._share.takes(name, items, now)
        if taken is None:
            self._note("shed", items)
        if not taken:
            return None
        headers = headers or forwarded(request)
        return Sampled(name, headers.get("x-titrate-arm", self._settings.arm), headers.get("x-titrate-user"))

    def _queue(self, item: Item) -> None:
        if len(self._items) >= UNDESCRIBED:
            self._note("dropped", 1)
            return
        self._items.append(item)
        self._arrived.set()

    def _describe_all(self) -> None:
        while not (self._closed.is_set() and not self._items):
            if not self._items:
                self._arrived.wait(1.0)
                self._arrived.clear()
                continue
            self._lines.append(line(self._items.popleft(), self._fixed, self._statistics))
            self._shorten()

    def _shorten(self) -> None:
        """Let go of the oldest lines."""
        self._note("dropped", sum(1 for _ in pop(self._lines, len(self._lines) - UNSENT)))

    def _send_all(self) -> None:
        pause = 0.0
        while not self._closed.wait(pause or BATCH_SECONDS):
            while len(self._lines) and (pause := self._send(pause)) == 0.0:
                pass
        self._threads[0].join(CLOSE_SECONDS)
        while self._lines and not self._send(0.0):
            pass
        self._note("dropped", len(self._lines))
        self._sender.close()

    def _send(self, pause: float) -> float:
        """Post one batch; returns the seconds to wait before the next, 0.0 when it went well."""
        batch = list(pop(self._lines, BATCH))
        try:
            refused = self._sender.post(b"".join(batch))
        except (OSError, http.client.HTTPException, Unavailable):
            self._lines.extendleft(reversed(batch))
            self._shorten()
            return min(LONGEST_PAUSE, 2 * pause or FIRST_PAUSE)
        refused = len(batch) if refused is None else refused
        self._note("refused", refused)
        self._note("sent", len(batch) - refused)
        return 0.0


class Unavailable(Exception):  # noqa: N818 - a state of the receiver
    """The receiver asks to come again."""


class Sender:
    """One connection to the receiver, kept open."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._path = parts.path or "/"
        self._connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT)

    def post(self, body: bytes) -> int | None:
        """The number of refused lines, None when all are; raises Unavailable, OSError or HTTPException."""
        try:
            self._connection.request("POST", self._path, body, {"Content-Type": "application/x-ndjson"})
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if response.status >= 500 or response.status in (408, 429):
            raise Unavailable
        return len(json.loads(content)["rejected"]) if response.status == 200 else None

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def pop(lines: "collections.deque[bytes]", most: int) -> Iterator[bytes]:
    """The first lines, although another thread may take some of them away."""
    with contextlib.suppress(IndexError):
        for _ in range(most):
            yield lines.popleft()


def usable(given: str) -> str:
    """The id of a request in events: as given where the contract allows it, else its hash; random without any."""
    if not given:
        return uuid.uuid4().hex
    return given if USABLE_ID.fullmatch(given) else hashlib.sha256(given.encode()).hexdigest()


def forwarded(request: Any) -> dict[str, Any]:
    """The HTTP headers that Triton hands on (server.py says which), by lower-case name."""
    return {name.lower(): value for name, value in json.loads(request.parameters() or "{}").items()}


def line(item: Item, fixed: Mapping[str, str], statistics: Callable[[Any], Mapping[str, float]]) -> bytes:
    """One event as a line of JSON (core.events.Event)."""
    error = item.answers.errors[item.row]
    event: dict[str, Any] = {
        **fixed,
        "prediction_id": f"{item.of.request_id}-{item.number}",
        "request_id": item.of.request_id,
        "item": item.number,
        "arm": item.of.arm,
        "at": datetime.fromtimestamp(item.at, UTC).isoformat(),
        "outcome": error.split(b":")[0].decode() if error else OK,
        "latency_ms": round(item.latency * 1e3, 3),
        "user": item.of.user,
    }
    if not error:
        event |= answer(item.answers, item.row) | {"image": dict(statistics(item.image))}
    return json.dumps(event).encode() + b"\n"


def answer(answers: Any, row: int) -> dict[str, Any]:
    """The answer to one item; the embedding as base64 of float32, 100 times as fast as decimal numbers."""
    return {
        "label": answers.label[row, 0].decode(),
        "probability": float(answers.probability[row, 0]),
        "labels": [label.decode() for label in answers.labels[row]],
        "probabilities": [float(value) for value in answers.probabilities[row]],
        "abstain": bool(answers.abstain[row, 0]),
        "embedding": base64.b64encode(answers.embedding[row].astype("<f4").tobytes()).decode(),
    }
