"""The gateway: uploads, URLs and labels over plain HTTP, for clients that do not speak V2.

`create_app` wires the parts: `predict.py` answers `POST /v1/predict` through `upstream.py` (Envoy's internal listener);
everything else is below. Envoy in front has checked keys, limits and sizes before a request comes here.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.gateway import body, contract
from serving.gateway.fetch import Fetcher
from serving.gateway.observe import Metrics, Observed
from serving.gateway.predict import DEFECT, UNREADY_RETRY, Predict, answer_problem
from serving.gateway.problems import Code, ProblemError
from serving.gateway.settings import MIB, Settings
from serving.gateway.upstream import Upstream

MAX_LABELS_BODY = 4 * MIB
"""Bytes: 10,000 labels have about 1 MiB."""
FEEDBACK_TIME = 5.0
"""Seconds for the feedback service to answer."""
PREDICT = "/v1/predict"
PATHS = frozenset({PREDICT, "/v1/labels", "/v1/models", "/v1/openapi.json", "/healthz", "/readyz", "/metrics"})


def create_app(settings: Settings) -> FastAPI:
    """The gateway as an ASGI app; connections are opened when it starts and closed when it stops."""
    metrics = Metrics()
    room = body.Room(settings.max_buffered)
    predict = Predict(settings, metrics, room)
    feedback = _Feedback(settings.feedback_url)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        fetcher = Fetcher(settings)
        predict.fetch, predict.upstream = fetcher, Upstream(settings.upstream, settings.workloads)
        metrics.buffered.set_function(lambda: room.used)
        metrics.ready.set_function(lambda: predict.upstream.ready)
        watch = asyncio.create_task(predict.upstream.watch())
        async with feedback.opened():
            yield
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        await predict.upstream.close()
        await fetcher.close()

    app = _Gateway(
        title="Titrate gateway",
        version="1",
        description="Images in, predictions of the released model out; right answers back.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # FastAPI's page loads scripts from a public CDN
        redoc_url=None,
        lifespan=lifespan,
    )
    app.predict = Observed(predict, metrics, PATHS)
    app.add_middleware(Observed, metrics=metrics, paths=PATHS)
    app.router.routes.append(Route(PREDICT, predict, methods=["POST"]))  # answers other methods with 405
    app.openapi = lambda: contract.openapi(app)  # type: ignore[method-assign] # FastAPI's documented way
    _add_problems(app)
    _add_labels(app, feedback, room, settings.upload_time)
    _add_state(app, predict, metrics, settings.workloads)
    return app


class _Gateway(FastAPI):
    """FastAPI with a shorter way to predictions: its own stack takes 80 us of CPU a request, a fifth of all."""

    predict: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        direct = scope["type"] == "http" and scope["path"] == PREDICT and scope["method"] == "POST"
        await (self.predict if direct else super().__call__)(scope, receive, send)


class _Feedback:
    """The client of the feedback service."""

    client: httpx.AsyncClient

    def __init__(self, url: str | None) -> None:
        self._url = url

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=self._url or "", timeout=FEEDBACK_TIME, trust_env=False) as self.client:
            yield

    async def send(self, content: bytes, request_id: str) -> bytes:
        """Forward labels; the service's report. Raises ProblemError."""
        if self._url is None:
            raise ProblemError(Code.FEEDBACK_UNAVAILABLE, "this gateway has no feedback service")
        headers = {"content-type": "application/json", "x-request-id": request_id}
        try:
            answer = await self.client.post("/labels", content=content, headers=headers)
        except httpx.TransportError as error:
            raise ProblemError(Code.FEEDBACK_UNAVAILABLE, "the feedback service is away", retry_after=1) from error
        if answer.status_code == HTTPStatus.BAD_REQUEST:
            raise ProblemError(Code.BAD_REQUEST, str(answer.json()["detail"]))
        if answer.status_code != HTTPStatus.OK:
            detail = f"the feedback service answered {answer.status_code}"
            raise ProblemError(Code.FEEDBACK_UNAVAILABLE, detail, retry_after=1)
        return answer.content


def _add_labels(app: FastAPI, feedback: _Feedback, room: body.Room, seconds: float) -> None:
    schema = {"required": True, "content": {"application/json": {"schema": contract.reference(contract.Labels)}}}
    codes = (Code.BAD_REQUEST, Code.SLOW_UPLOAD, Code.TOO_LARGE, Code.OVERLOADED, Code.FEEDBACK_UNAVAILABLE)

    @app.post(
        "/v1/labels",
        operation_id="label",
        openapi_extra={"requestBody": schema},
        response_model=contract.LabelReport,
        responses=contract.problem_responses(*codes),
    )
    async def labels(request: Request) -> Response:
        """Say what earlier predictions should have been; sending a label twice is harmless."""
        length = request.headers.get("content-length")
        with room.share() as take:
            limits = MAX_LABELS_BODY, seconds
            content = await body.read(request.receive, length.encode() if length else None, *limits, take)
        report = await feedback.send(content, request.scope["trace"].request_id)
        return Response(report, media_type="application/json")


def _add_state(app: FastAPI, predict: Predict, metrics: Metrics, workloads: Sequence[str]) -> None:
    @app.get("/v1/models", operation_id="models", responses=contract.problem_responses(Code.UNREADY))
    async def models() -> contract.ServedModels:
        """The models that answer now."""
        upstream = predict.upstream
        found = [upstream.models[name] for name in workloads if upstream.is_ready(name)]
        if not found:
            raise ProblemError(Code.UNREADY, "the model server is away", UNREADY_RETRY)
        return contract.ServedModels(
            models=[
                contract.ServedModel(workload=model.name, versions=list(model.versions), max_batch=model.max_batch)
                for model in found
            ]
        )

    @app.get("/healthz", operation_id="healthz")
    async def healthz() -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    @app.get("/readyz", operation_id="readyz", responses=contract.problem_responses(Code.UNREADY))
    async def readyz() -> dict[str, str]:
        """Every model is loaded and answers."""
        if not predict.upstream.ready:
            raise ProblemError(Code.UNREADY, "a model server is away", UNREADY_RETRY)
        return {"status": "ready"}

    @app.get("/metrics", include_in_schema=False)
    async def get_metrics() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_problems(app: FastAPI) -> None:
    """Every failure, the framework's own too, is a problem answer."""
    known = {404: Code.UNKNOWN_PATH, 405: Code.METHOD_NOT_ALLOWED}

    def answer(request: Request, problem: ProblemError, more: Any = None) -> Response:
        status, headers, content = answer_problem(problem, request.scope)
        return Response(content, status, {**headers, **(more or {})})

    @app.exception_handler(ProblemError)
    async def on_problem(request: Request, error: ProblemError) -> Response:
        return answer(request, error)

    @app.exception_handler(body.DisconnectedError)
    async def on_gone(_request: Request, _error: body.DisconnectedError) -> Response:
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody is there to read it

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        code = known.get(error.status_code, Code.BAD_REQUEST)
        return answer(request, ProblemError(code, f"{request.method} {request.url.path[:200]}"), error.headers)

    @app.exception_handler(Exception)
    async def on_defect(request: Request, _error: Exception) -> Response:
        response = answer(request, ProblemError(Code.INTERNAL, DEFECT))
        response.headers["x-request-id"] = request.scope["trace"].request_id
        return response
