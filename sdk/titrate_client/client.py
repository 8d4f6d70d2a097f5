"""`Client` and `AsyncClient`: the same calls, blocking and not. `wire.py` says what goes over the connection."""

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

from titrate_client import retry, wire
from titrate_client.errors import BadImageError, UnavailableError
from titrate_client.images import Image, encoded
from titrate_client.results import LabelResult, Model, Prediction, Refusal

PARALLEL = 4
"""Batches that `AsyncClient.predict_batch` has under way at one moment."""


class _Calls:
    """What both clients share: everything but waiting."""

    def __init__(self, workload: str, retries: int) -> None:
        self._workload = workload
        self._retries = retries
        self._max_batch: int | None = None

    def _config_request(self) -> wire.Request:
        return wire.Request("GET", f"/v2/models/{self._workload}/config")

    def _groups(self, images: Sequence[Image], config: bytes | None) -> list[Sequence[Image]]:
        """The images in groups of the model's `max_batch_size`."""
        if config is not None:
            self._max_batch = max(1, int(json.loads(config).get("max_batch_size", 1)))
        size = self._max_batch or 1
        return [images[at : at + size] for at in range(0, len(images), size)]

    def _inference(self, group: Sequence[Image]) -> wire.Inference:
        """Reads the files of the group."""
        return wire.inference(self._workload, [encoded(image) for image in group])

    def _again(self, attempt: int, response: httpx.Response | None, failure: Exception | None) -> float:
        """Seconds to wait before the next attempt; raises when there must be none."""
        retry_after = response.headers.get("retry-after") if response is not None else None
        seconds = retry.wait(attempt, retry_after) if attempt < self._retries else None
        if seconds is None:
            what = f"the service answered {response.status_code}" if response is not None else f"no answer: {failure!r}"
            raise UnavailableError(f"{what} (attempt {attempt + 1})") from failure
        return seconds


def _options(url: str, api_key: str | None, bearer: str | None, timeout: float, verify: Any) -> dict[str, Any]:
    headers = {"User-Agent": "titrate-client", "Accept-Encoding": "identity"}  # Triton would pack a few bytes
    if api_key is not None:
        headers["X-Api-Key"] = api_key
    if bearer is not None:
        headers["Authorization"] = f"Bearer {bearer}"
    return {"base_url": url, "headers": headers, "timeout": timeout, "verify": verify, "trust_env": False}


def _checked(response: httpx.Response) -> httpx.Response:
    if response.status_code != httpx.codes.OK:
        raise wire.refusal(response.status_code, response.content)
    return response


def _answered(item: Prediction | Refusal) -> Prediction:
    if isinstance(item, Refusal):
        raise BadImageError(item)
    return item


class Client(_Calls):
    """A blocking client of one workload; safe to share between threads; use it as a context manager, or `close` it."""

    def __init__(
        self,
        url: str,
        workload: str,
        *,
        api_key: str | None = None,
        bearer: str | None = None,
        timeout: float = 10.0,
        retries: int = 3,
        verify: Any = True,
    ) -> None:
        """`timeout`: seconds for each of connecting, sending and waiting; `verify`: as httpx's (an SSLContext)."""
        super().__init__(workload, retries)
        self._http = httpx.Client(**_options(url, api_key, bearer, timeout, verify))

    def predict(self, image: Image) -> Prediction:
        """The answer for one image; raises BadImageError, RequestError, UnavailableError."""
        return _answered(self._infer(self._inference([image]))[0])

    def predict_batch(self, images: Sequence[Image]) -> list[Prediction | Refusal]:
        """Answers in the order of the images; a bad image gets a Refusal and costs no other."""
        config = None if self._max_batch else self._send(self._config_request()).content
        return [item for group in self._groups(images, config) for item in self._infer(self._inference(group))]

    def label(self, prediction_id: str, label: str, at: datetime | None = None) -> LabelResult:
        """Say what a prediction should have been; harmless to repeat."""
        return self.label_batch([(prediction_id, label)], at)[0]

    def label_batch(self, rows: Sequence[tuple[str, str]], at: datetime | None = None) -> list[LabelResult]:
        """The same for (prediction_id, label) rows; one result for each."""
        return wire.label_results(rows, self._send(wire.label_request(rows, at)).content)

    def models(self) -> list[Model]:
        """What is served."""
        return wire.models(self._send(wire.Request("GET", "/v1/models")).content)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _infer(self, sent: wire.Inference) -> list[Prediction | Refusal]:
        response = self._send(sent.request)
        return wire.predictions(sent, response.headers, response.content)

    def _send(self, request: wire.Request) -> httpx.Response:
        for attempt in range(self._retries + 1):
            response, failure = None, None
            try:
                response = self._http.request(
                    request.method, request.path, content=request.content, headers=dict(request.headers)
                )
                if response.status_code not in retry.STATUSES:
                    return _checked(response)
            except retry.SENT_IN_VAIN as error:
                failure = error
            except httpx.TransportError as error:
                raise UnavailableError(f"no answer: {error!r}") from error
            time.sleep(self._again(attempt, response, failure))
        raise AssertionError("unreachable: the last attempt raises")


class AsyncClient(_Calls):
    """The same for asyncio; use it as an async context manager, or `aclose` it."""

    def __init__(
        self,
        url: str,
        workload: str,
        *,
        api_key: str | None = None,
        bearer: str | None = None,
        timeout: float = 10.0,
        retries: int = 3,
        verify: Any = True,
    ) -> None:
        """As of `Client`."""
        super().__init__(workload, retries)
        self._http = httpx.AsyncClient(**_options(url, api_key, bearer, timeout, verify))

    async def predict(self, image: Image) -> Prediction:
        """As of `Client`."""
        return _answered((await self._infer(self._inference([image])))[0])

    async def predict_batch(self, images: Sequence[Image]) -> list[Prediction | Refusal]:
        """As of `Client`; several batches are under way at once."""
        config = None if self._max_batch else (await self._send(self._config_request())).content
        slots = asyncio.Semaphore(PARALLEL)

        async def one(group: Sequence[Image]) -> list[Prediction | Refusal]:
            async with slots:
                return await self._infer(self._inference(group))

        parts = await asyncio.gather(*[one(group) for group in self._groups(images, config)])
        return [item for part in parts for item in part]

    async def label(self, prediction_id: str, label: str, at: datetime | None = None) -> LabelResult:
        """As of `Client`."""
        return (await self.label_batch([(prediction_id, label)], at))[0]

    async def label_batch(self, rows: Sequence[tuple[str, str]], at: datetime | None = None) -> list[LabelResult]:
        """As of `Client`."""
        return wire.label_results(rows, (await self._send(wire.label_request(rows, at))).content)

    async def models(self) -> list[Model]:
        """As of `Client`."""
        return wire.models((await self._send(wire.Request("GET", "/v1/models"))).content)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _infer(self, sent: wire.Inference) -> list[Prediction | Refusal]:
        response = await self._send(sent.request)
        return wire.predictions(sent, response.headers, response.content)

    async def _send(self, request: wire.Request) -> httpx.Response:
        for attempt in range(self._retries + 1):
            response, failure = None, None
            try:
                response = await self._http.request(
                    request.method, request.path, content=request.content, headers=dict(request.headers)
                )
                if response.status_code not in retry.STATUSES:
                    return _checked(response)
            except retry.SENT_IN_VAIN as error:
                failure = error
            except httpx.TransportError as error:
                raise UnavailableError(f"no answer: {error!r}") from error
            await asyncio.sleep(self._again(attempt, response, failure))
        raise AssertionError("unreachable: the last attempt raises")
