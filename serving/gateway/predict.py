"""`POST /v1/predict`: images in, predictions out. A plain ASGI endpoint: FastAPI's own costs a third more CPU here."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import orjson
from starlette.types import Receive, Scope, Send

from core.errors import nearest
from serving.gateway import body
from serving.gateway.observe import Metrics
from serving.gateway.problems import Code, ProblemError
from serving.gateway.settings import Settings
from serving.gateway.upstream import Answer, Upstream

UNREADY_RETRY = 1
"""Seconds after which a client may come again while the model server is away: a restart takes 2 to 4."""
DEFECT = "a defect of the gateway; its log has the traceback"


class Predict:
    """The endpoint; `upstream` and `fetch` are there once the app has started."""

    upstream: Upstream
    fetch: body.Fetch

    def __init__(self, settings: Settings, metrics: Metrics, room: body.Room) -> None:
        self._settings = settings
        self._room = room
        self._running = 0
        metrics.in_flight.set_function(lambda: self._running)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            status, headers, content = 200, {"content-type": "application/json"}, await self._answer(scope, receive)
        except body.DisconnectedError:
            scope["trace"].facts["disconnected"] = True
            return
        except ProblemError as problem:
            status, headers, content = answer_problem(problem, scope)
        except Exception:
            await _send(send, *answer_problem(ProblemError(Code.INTERNAL, DEFECT), scope))
            raise  # uvicorn logs the traceback
        await _send(send, status, headers, content)

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        workload = self._admit(scope)
        headers = dict(scope["headers"])
        self._running += 1
        try:
            with self._room.share() as take:
                limits = self._settings.max_body, self._settings.upload_time
                content = await body.read(receive, headers.get(b"content-length"), *limits, take)
                kind = headers.get(b"content-type", b"").decode("latin-1")
                images = await body.images(kind, content, self._settings, self.fetch)
                seconds = _deadline(headers, self._settings.deadline)
                answers = await self.upstream.infer(workload, images, seconds, scope["trace"].upstream)
        finally:
            self._running -= 1
        scope["trace"].facts.update(workload=workload, images=len(images), release=answers[0].release)
        return document(answers)

    def _admit(self, scope: Scope) -> str:
        """The workload that the request names; raises ProblemError before anything of the body was read."""
        workload = self._named(scope["query_string"])
        if not self.upstream.is_ready(workload):
            raise ProblemError(Code.UNREADY, "the model server is away", UNREADY_RETRY)
        if self._running >= self._settings.max_in_flight:
            raise ProblemError(Code.OVERLOADED, f"{self._running} requests are in flight", retry_after=1)
        return workload

    def _named(self, query: bytes) -> str:
        if not self._settings.workloads:
            raise ProblemError(Code.UNREADY, "no release is stable yet", UNREADY_RETRY)
        if not query:
            return self._settings.workloads[0]
        words = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        if set(words) != {"workload"}:
            raise ProblemError(Code.BAD_REQUEST, "the query may name a workload and nothing else")
        name = words["workload"][-1]
        if name not in self._settings.workloads:
            raise ProblemError(Code.UNKNOWN_WORKLOAD, f"{name[:100]!r}: {nearest(name, self._settings.workloads)}")
        return name


async def _send(send: Send, status: int, headers: dict[str, str], content: bytes) -> None:
    headers["content-length"] = str(len(content))
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": content})


def _deadline(headers: dict[bytes, bytes], most: float) -> float:
    """Seconds for the model: what Envoy still grants this request, at most `most`."""
    granted = headers.get(b"x-envoy-expected-rq-timeout-ms", b"")
    return min(most, int(granted) / 1e3) if granted.isdigit() and int(granted) else most


def document(answers: Sequence[Answer]) -> bytes:
    """The JSON answer. Raises ProblemError when the request's only image was refused."""
    if len(answers) == 1 and answers[0].error:
        reason, _, detail = answers[0].error.partition(": ")
        raise ProblemError(Code.BAD_IMAGE, detail or reason, reason=reason, prediction_id=answers[0].prediction_id)
    return orjson.dumps({"predictions": [_item(answer) for answer in answers]})


def _item(answer: Answer) -> dict[str, Any]:
    if answer.error:
        reason, _, detail = answer.error.partition(": ")
        return {
            "prediction_id": answer.prediction_id,
            "release": answer.release,
            "error": {"code": Code.BAD_IMAGE.slug, "reason": reason, "detail": detail or reason},
        }
    return {
        "prediction_id": answer.prediction_id,
        "release": answer.release,
        "label": answer.label,
        "probability": answer.probability,
        "top": [{"label": label, "probability": probability} for label, probability in answer.top],
        "abstain": answer.abstain,
    }


def answer_problem(problem: ProblemError, scope: Scope) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of a problem answer, which is also noted for log and metrics."""
    scope["trace"].facts["code"] = problem.code.slug
    return problem.status, problem.headers(), problem.body(scope["trace"].request_id)
