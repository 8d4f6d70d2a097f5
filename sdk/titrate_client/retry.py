"""Whether and when to send again: only what cannot do harm twice, and never all clients at the same moment.

Every call of this package is idempotent: inference changes nothing, labels are stored once. Full jitter: Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog 2015.
"""

import random

import httpx

STATUSES = frozenset({502, 503, 504})
BASE, CAP = 0.1, 5.0
"""Seconds: the first wait is at most BASE, the next twice that, none more than CAP."""
LONGEST_RETRY_AFTER = 30.0
"""Seconds; a service that asks for more is not waited for."""
SENT_IN_VAIN = (httpx.ConnectError, httpx.ConnectTimeout, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
"""The connection failed. An answer that is late (ReadTimeout) is not asked for again: it would double the load."""


def wait(attempt: int, retry_after: str | None) -> float | None:
    """Seconds before attempt `attempt` + 1 (0 is the first); None: do not send again.

    What the service asked for in `Retry-After` comes on top of the jitter; a date there counts as nothing.
    """
    asked = float(retry_after) if retry_after and retry_after.isdigit() else 0.0
    if asked > LONGEST_RETRY_AFTER:
        return None
    return asked + random.uniform(0.0, min(CAP, BASE * 2**attempt))  # nosec B311 - no secret
