"""The feedback service over HTTP: models post events, people and systems post labels, rollouts read counts.

It answers 200 with a report by row: one wrong row never costs the others. 503 with Retry-After means that nothing of
the batch was stored and the sender should come again; sending twice is harmless.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from pydantic import AwareDatetime, ValidationError

from core.config import Config, explain
from core.errors import TemporaryError
from core.events import CLOCK_SKEW_SECONDS, Event, Label
from serving.feedback.counts import Range, counts
from serving.feedback.store import LabelResult, Store

MAX_BODY = 32 * 2**20
"""Bytes of one batch: about 2,900 events with an embedding of 512."""
MAX_LABELS = 10_000
"""Rows of one batch of labels."""
KEEP_DAYS = 90.0
"""As long as metrics are kept (M11)."""
FORGET_EVERY = 3600.0
"""Seconds."""
_DAY = 86_400.0


class Rejected(Config):
    """A row that was not stored."""

    row: int
    reason: str


class EventReport(Config):
    """What became of a batch of events."""

    accepted: int
    duplicates: int
    """Rows whose key was stored before."""
    rejected: list[Rejected]


class LabelRow(Config):
    """What became of one label."""

    row: int
    result: str
    """stored, waiting, duplicate, contradicts, future or invalid."""
    reason: str = ""


class LabelReport(Config):
    """What became of a batch of labels, row by row."""

    rows: list[LabelRow]


class CountRow(Config):
    """`k` of `n`."""

    arm: str
    release: str
    metric: str
    n: int
    k: int


class Metrics:
    """What Prometheus reads, in a registry of this service's own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "titrate_feedback_events_total",
            "Events received: accepted, duplicate or rejected.",
            ["result"],
            registry=self.registry,
        )
        self.labels = Counter(
            "titrate_feedback_labels_total",
            "Labels received: stored, waiting, duplicate, contradicts, future or invalid.",
            ["result"],
            registry=self.registry,
        )
        self.outcomes = Counter(
            "titrate_feedback_outcomes_total",
            "Labels stored after their prediction, by whether they are what its client was answered: right or wrong.",
            ["workload", "outcome"],
            registry=self.registry,
        )
        self.label_delay = Histogram(
            "titrate_feedback_label_delay_seconds",
            "From a prediction to its label.",
            buckets=(60.0, 3600.0, 6 * 3600.0, _DAY, 3 * _DAY, 7 * _DAY, 30 * _DAY),
            registry=self.registry,
        )
        self.forgotten = Counter(
            "titrate_feedback_forgotten_total",
            "Events and labels that were removed because of their age.",
            registry=self.registry,
        )
        self.write = Histogram(
            "titrate_feedback_write_seconds", "Time to store one batch.", ["kind"], registry=self.registry
        )


def create_app(store: Store, keep_days: float = KEEP_DAYS) -> FastAPI:
    """The service over one store; what is older than `keep_days` is forgotten."""
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        forgetting = asyncio.create_task(_forget(store, metrics, keep_days))
        yield
        forgetting.cancel()

    app = FastAPI(title="Titrate feedback", docs_url=None, redoc_url=None, lifespan=lifespan)

    @app.exception_handler(TemporaryError)
    async def come_again(_request: Request, error: TemporaryError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503, {"Retry-After": str(max(1, round(error.delay)))})

    @app.post("/events", response_model=EventReport)
    async def post_events(request: Request) -> Response:
        """Store a batch of events: one JSON object a line (`application/x-ndjson`)."""
        body = await _body(request)
        return _json(await run_in_threadpool(_take_events, store, metrics, body))

    @app.post("/labels", response_model=LabelReport)
    async def post_labels(request: Request) -> Response:
        """Store labels: `{"labels": [{"prediction_id", "label", "at"?, "source"?}, ...]}`."""
        rows = _label_rows(await _body(request))
        return _json(await run_in_threadpool(_take_labels, store, metrics, rows))

    @app.get("/counts")
    def get_counts(
        workload: str,
        since: AwareDatetime,
        until: AwareDatetime | None = None,
        slow_ms: Annotated[float | None, Query(gt=0)] = None,
    ) -> list[CountRow]:
        """Counts by arm, release and metric of the events with since <= at < until."""
        end = datetime.max.replace(tzinfo=UTC) if until is None else until
        with store.reading() as connection:
            found = counts(connection, Range(workload, _micros(since), _micros(end)), slow_ms)
        return [CountRow(**count._asdict()) for count in found]

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        """The database answers (else 503)."""
        store.ping()
        return {"status": "ready"}

    @app.get("/metrics")
    def get_metrics() -> Response:
        """Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def _forget(store: Store, metrics: Metrics, keep_days: float) -> None:
    """Now and then remove what is too old; a database that does not answer is asked again the next time."""
    while True:
        await asyncio.sleep(FORGET_EVERY)
        with contextlib.suppress(TemporaryError):
            before = int((time.time() - keep_days * _DAY) * 1e6)
            metrics.forgotten.inc(await run_in_threadpool(store.forget, before))


def _take_events(store: Store, metrics: Metrics, body: bytes) -> dict[str, Any]:
    good, rejected = [], []
    latest = time.time() + CLOCK_SKEW_SECONDS
    for row, line in enumerate(body.splitlines()):
        try:
            event = Event.model_validate_json(line)
        except ValidationError as error:
            rejected.append({"row": row, "reason": explain(error, Event.model_fields)[:500]})
            continue
        if event.at.timestamp() > latest:
            rejected.append({"row": row, "reason": f"at = {event.at.isoformat()!r} is in the future"})
            continue
        good.append(event)
    with metrics.write.labels("events").time():
        accepted = store.add_events(good)
    metrics.events.labels("accepted").inc(accepted)
    metrics.events.labels("duplicate").inc(len(good) - accepted)
    metrics.events.labels("rejected").inc(len(rejected))
    return {"accepted": accepted, "duplicates": len(good) - accepted, "rejected": rejected}


def _take_labels(store: Store, metrics: Metrics, rows: list[Any]) -> dict[str, Any]:
    good: list[Label] = []
    reasons: list[str] = []
    for row in rows:
        try:
            good.append(Label.model_validate_json(orjson.dumps(row)))
            reasons.append("")
        except ValidationError as error:
            reasons.append(explain(error, Label.model_fields)[:500])
    with metrics.write.labels("labels").time():
        results = iter(store.add_labels(good))
    report = []
    for number, reason in enumerate(reasons):
        result = "invalid" if reason else _counted(metrics, next(results))
        metrics.labels.labels(result).inc()
        report.append({"row": number, "result": result, "reason": reason})
    return {"rows": report}


def _counted(metrics: Metrics, one: LabelResult) -> str:
    if one.delay_seconds is not None:
        metrics.label_delay.observe(one.delay_seconds)
    if one.right is not None:
        metrics.outcomes.labels(one.workload, "right" if one.right else "wrong").inc()
    return one.result


def _label_rows(body: bytes) -> list[Any]:
    try:
        rows = orjson.loads(body)["labels"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise HTTPException(400, 'the body must be JSON: {"labels": [...]}') from error
    if not isinstance(rows, list) or len(rows) > MAX_LABELS:
        raise HTTPException(400, f"'labels' must be a list of at most {MAX_LABELS} rows")
    return rows


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise HTTPException(413, f"a batch may have {MAX_BODY} bytes; send smaller ones")
        parts.append(part)
    return b"".join(parts)


def _json(report: dict[str, Any]) -> Response:
    return Response(orjson.dumps(report), media_type="application/json")


def _micros(at: datetime) -> int:
    return int(at.timestamp() * 1e6)
