"""Failures as RFC 9457 problem answers: one stable code for each kind, that clients may rely on.

`docs/api.md` lists the codes; a test holds the list equal to this enum.
"""

from enum import Enum
from typing import Any

import orjson

MEDIA_TYPE = "application/problem+json"
TYPE = "urn:titrate:problem:"


class Code(Enum):
    """(status, title) of each kind of failure; the member's name in lower case is the code."""

    BAD_REQUEST = (400, "The request cannot be understood")
    BAD_MULTIPART = (400, "The multipart body is malformed")
    BAD_BASE64 = (400, "An image is not valid base64")
    UNAUTHORIZED = (401, "A key or token is needed")
    FORBIDDEN = (403, "The token is not for this service")
    URL_REFUSED = (403, "Images may not be fetched from this URL")
    UNKNOWN_PATH = (404, "Nothing is here")
    UNKNOWN_WORKLOAD = (404, "No such model is served")
    METHOD_NOT_ALLOWED = (405, "The method is not allowed here")
    SLOW_UPLOAD = (408, "The body did not arrive in time")
    TOO_LARGE = (413, "The body or an image is too large")
    TOO_MANY_IMAGES = (413, "Too many images in one request")
    UNSUPPORTED_MEDIA_TYPE = (415, "Send multipart/form-data or application/json")
    BAD_IMAGE = (422, "The image cannot be used")
    URL_FAILED = (422, "The image could not be fetched")
    TOO_MANY_REQUESTS = (429, "Too many requests of this user")
    INTERNAL = (500, "The gateway failed")
    MODEL_FAILED = (500, "The model failed")
    FEEDBACK_UNAVAILABLE = (503, "The feedback service does not answer")
    OVERLOADED = (503, "Too many requests at once")
    UNREADY = (503, "The model server is not ready")
    DEADLINE = (504, "The model did not answer in time")

    @property
    def slug(self) -> str:
        """The code in answers, metrics and logs, for example `bad_image`."""
        return self.name.lower()


class ProblemError(Exception):
    """Ends a request with a problem answer."""

    def __init__(self, code: Code, detail: str, retry_after: int | None = None, **more: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        """Seconds after which the client may come again."""
        self.more = more

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.code.value[0])

    def headers(self) -> dict[str, str]:
        """Headers of the answer; a body that was not read to its end costs the connection, and so does a defect."""
        headers = {"content-type": MEDIA_TYPE}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.code in {Code.SLOW_UPLOAD, Code.TOO_LARGE, Code.TOO_MANY_IMAGES, Code.INTERNAL}:
            headers["connection"] = "close"
        return headers

    def body(self, request_id: str) -> bytes:
        """The problem document."""
        document: dict[str, Any] = {
            "type": TYPE + self.code.slug,
            "title": self.code.value[1],
            "status": self.status,
            "detail": self.detail,
            "code": self.code.slug,
            "request_id": request_id,
            **self.more,
        }
        return orjson.dumps(document)
