"""Takes the images out of a request: its body within limits of size, time and memory, then one of three forms."""

import asyncio
import binascii
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from starlette.types import Receive

from core.errors import nearest
from serving.gateway import multipart
from serving.gateway.problems import Code, ProblemError
from serving.gateway.settings import Settings

Fetch = Callable[[str], Awaitable[bytes]]
KEYS = ("image", "images", "url")


class DisconnectedError(Exception):
    """The client went away before its body was complete; nobody is there to answer."""


class Room:
    """Bytes of bodies that may be held at one moment."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """A function that takes bytes until the block ends; it raises ProblemError when there is no room."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self.used + count > self.size:
                raise ProblemError(Code.OVERLOADED, "too many uploads at once", retry_after=1)
            self.used += count
            taken += count

        try:
            yield take
        finally:
            self.used -= taken


async def read(
    receive: Receive, length: bytes | None, limit: int, seconds: float, take: Callable[[int], None]
) -> bytes:
    """The whole body, of at most `limit` bytes; `length` is the Content-Length header.

    Raises ProblemError, also when the body has not arrived after `seconds`; DisconnectedError.
    """
    if length is not None and int(length) > limit:
        raise ProblemError(Code.TOO_LARGE, f"a body may have {limit} bytes; this one has {int(length)}")
    chunks, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise DisconnectedError
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise ProblemError(Code.TOO_LARGE, f"a body may have {limit} bytes")
                take(len(chunk))
                chunks.append(chunk)
                if not message.get("more_body"):
                    return b"".join(chunks)
    except TimeoutError as error:
        raise ProblemError(Code.SLOW_UPLOAD, f"after {seconds:g} s {size} bytes had arrived") from error


async def images(content_type: str, body: bytes, settings: Settings, fetch: Fetch) -> list[bytes]:
    """The encoded images of a body, at least one; raises ProblemError."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found = multipart.parts(body, multipart.boundary(content_type), settings.max_images)
    elif kind == "application/json":
        found = await _from_json(body, settings, fetch)
    else:
        raise ProblemError(Code.UNSUPPORTED_MEDIA_TYPE, f"Content-Type is {kind!r}")
    if not found:
        raise ProblemError(Code.BAD_REQUEST, "the request has no image")
    for number, image in enumerate(found):
        if len(image) > settings.max_image:
            raise ProblemError(
                Code.TOO_LARGE, f"image {number} has {len(image)} bytes; {settings.max_image} are allowed"
            )
    return found


async def _from_json(body: bytes, settings: Settings, fetch: Fetch) -> list[bytes]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProblemError(Code.BAD_REQUEST, f"the body is not JSON: {error}") from error
    if not isinstance(document, dict) or len(document) != 1:
        raise ProblemError(Code.BAD_REQUEST, f"the body must be an object with one of the keys {', '.join(KEYS)}")
    ((key, value),) = document.items()
    if key == "url" and isinstance(value, str):
        return [await fetch(value)]
    if key == "image" and isinstance(value, str):
        return [_decode(value, 0)]
    if key == "images" and isinstance(value, list):
        if len(value) > settings.max_images:
            raise ProblemError(Code.TOO_MANY_IMAGES, f"one request may have {settings.max_images} images")
        return [_decode(item, number) for number, item in enumerate(value)]
    detail = "has a value of the wrong type" if key in KEYS else f"is unknown; {nearest(key, KEYS)}"
    raise ProblemError(Code.BAD_REQUEST, f"the key {key[:100]!r} {detail}")


def _decode(text: Any, number: int) -> bytes:
    try:
        return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (AttributeError, UnicodeEncodeError, binascii.Error) as error:
        raise ProblemError(Code.BAD_BASE64, f"image {number}: {error}") from error
