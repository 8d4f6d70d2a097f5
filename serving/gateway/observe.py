"""What one gateway tells of itself: a request id on every answer, Prometheus metrics, and one log line a request.

Pure ASGI: Starlette's BaseHTTPMiddleware costs a task a request.
"""

import logging
import re
import time
import uuid
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("titrate.gateway")
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(rb"[\x20-\x7e]{1,512}")
GONE = 499
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds; the limits of the SLO (0.5, 1 and 2) are edges, so that shares beyond them are exact."""


class Metrics:
    """A registry of this app's own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "titrate_gateway_requests_total",
            "Requests by path and status.",
            ["path", "status"],
            registry=self.registry,
        )
        self.problems = Counter(
            "titrate_gateway_problems_total", "Problem answers by code.", ["code"], registry=self.registry
        )
        self.seconds = Histogram(
            "titrate_gateway_request_duration_seconds",
            "From the request's first byte to the answer's last.",
            ["path"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.in_flight = Gauge("titrate_gateway_in_flight_requests", "Predictions now.", registry=self.registry)
        self.buffered = Gauge("titrate_gateway_buffered_bytes", "Bodies held now.", registry=self.registry)
        self.ready = Gauge("titrate_gateway_upstream_ready", "1 while the model is ready.", registry=self.registry)


class Trace:
    """One request, as logs and upstream see it; `facts` are added to its log line."""

    __slots__ = ("facts", "request_id", "upstream")

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        found = {name: value for name, value in headers if name in {b"x-request-id", b"traceparent", b"tracestate"}}
        given = found.get(b"x-request-id", b"")
        self.request_id = given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self.upstream = [("x-request-id", self.request_id)]
        """Metadata for upstream: the request id and the W3C trace context."""
        parent, state = found.get(b"traceparent", b""), found.get(b"tracestate", b"")
        if _TRACEPARENT.fullmatch(parent):
            self.upstream.append(("traceparent", parent.decode()))
            if _TRACESTATE.fullmatch(state):
                self.upstream.append(("tracestate", state.decode()))
        self.facts: dict[str, Any] = {}


class Observed:
    """ASGI middleware: puts a `Trace` into `scope["trace"]` and accounts for the answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths
        """Known paths; any other one is counted as `other`, since clients choose names without end."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        trace = scope["trace"] = Trace(scope["headers"])
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", trace.request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            self._account(scope, trace, status, time.perf_counter() - began)

    def _account(self, scope: Scope, trace: Trace, status: int, seconds: float) -> None:
        if not status:  # nothing was sent: the client had gone (nginx' 499), or a defect
            status = GONE if "disconnected" in trace.facts else 500
        path = scope["path"] if scope["path"] in self._paths else "other"
        self._metrics.requests.labels(path, str(status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        if "code" in trace.facts:
            self._metrics.problems.labels(trace.facts["code"]).inc()
        if logger.isEnabledFor(logging.INFO):
            facts = {
                "request_id": trace.request_id,
                "method": scope["method"],
                "path": scope["path"][:200],
                "status": status,
                "ms": round(seconds * 1e3, 2),
                **trace.facts,
            }
            logger.info("request", extra={"facts": facts})
