"""What a call can raise.

TitrateClientError
├── BadImageError      the image must change
├── RequestError       the service refused the request or failed on it; a retry would not have helped
└── UnavailableError   the service did not answer, also after retries
"""

from titrate_client.results import Refusal


class TitrateClientError(Exception):
    """Base of all errors of this package."""


class BadImageError(TitrateClientError):
    """The image cannot be used; `refusal` says why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.code}: {refusal.detail}")
        self.refusal = refusal


class RequestError(TitrateClientError):
    """An answer other than 200."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        """HTTP status."""
        self.code = code
        """The service's stable code, for example `unauthorized`; empty where it gave none."""
        self.detail = detail


class UnavailableError(TitrateClientError):
    """No connection, no answer in time, or 502, 503 or 504 to the last attempt."""
