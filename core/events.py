"""The contract of an event: one sampled prediction, as it travels from a model to the feedback service.

A model posts JSON lines (one `Event` a line, `application/x-ndjson`) in batches to `POST /events` of the service and
may post a batch again: an event is stored once for each key (`prediction_id`, `release`, `arm`). The model inside
Triton carries no pydantic and copies the two formulas of this module:

    sampled:        int.from_bytes(sha256(request_id).digest()[:8], "big") < rate * 2**64
    prediction_id:  "{request_id}-{item}"

Both depend on the request id alone, so that a mirrored request is sampled in every arm or in none, and one label
serves the answers of all arms. A client that wants to label must therefore send ids that are unique (a UUID).
"""

import base64
import hashlib
import struct
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field, FiniteFloat

from core.config import Config

OK = "ok"
"""The outcome of an answered item; every other outcome is the code of why it was refused."""
CLOCK_SKEW_SECONDS = 300.0
"""A time further in the future than this is refused: clocks of one cluster differ by far less."""

Id = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,200}$")]
"""Printable ASCII without spaces."""
Name = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Text without control characters (PostgreSQL refuses NUL)."""
Probability = Annotated[FiniteFloat, Field(ge=0, le=1)]


def _floats(value: Any) -> Any:
    """The numbers in a base64 text; anything else as it is."""
    if not isinstance(value, str):
        return value
    content = base64.b64decode(value, validate=True)
    if len(content) % 4:
        raise ValueError(f"{len(content)} bytes are no float32 values")
    return struct.unpack(f"<{len(content) // 4}f", content)


class Event(Config):
    """One item of one request, answered by one arm."""

    prediction_id: Id
    request_id: Id
    """The V2 request's `id`; else the header `x-request-id`, which the edge adds; else a random UUID (hex). An id that
    breaks the rule above is replaced by its SHA-256."""
    item: int = Field(ge=0)
    """Index in the request's batch."""
    workload: Name
    release: Name
    """Digest of the release that answered."""
    model_version: Name
    arm: Name
    """stable, candidate or baseline; empty where the server was not told."""
    at: AwareDatetime
    """When the answer was ready, UTC."""
    outcome: str = Field(pattern=r"^[a-z0-9_]{1,64}$")
    """`ok`, or the code of why the image was refused, for example `bad_image`."""
    label: Name | None = None
    probability: Probability | None = None
    """Calibrated, of `label`."""
    labels: tuple[Name, ...] = Field(default=(), max_length=100)
    """The most probable labels, best first (top k)."""
    probabilities: tuple[Probability, ...] = Field(default=(), max_length=100)
    """Of `labels`, in their order."""
    abstain: bool | None = None
    embedding: Annotated[tuple[FiniteFloat, ...] | None, BeforeValidator(_floats)] = Field(
        default=None, max_length=8192
    )
    """float32 [d], kept as float32; numbers, or the base64 of little-endian float32 (a hundredth of the work)."""
    image: dict[Name, FiniteFloat] = Field(default={}, max_length=256)
    """Image statistics by name, such as `shape_ratio` and `texture_contrast` (F02)."""
    latency_ms: FiniteFloat = Field(ge=0)
    """From the request's arrival in the model to the answer, milliseconds."""
    user: Name | None = None
    """SHA-256 (hex) of the API key's name; never the key."""


class Label(Config):
    """What a prediction should have been."""

    prediction_id: Id
    label: Annotated[Name, Field(min_length=1)]
    at: AwareDatetime | None = None
    """When the truth was found, UTC; the time of arrival where it is not given."""
    source: str = Field(default="api", pattern=r"^[a-z0-9_.-]{1,64}$")
    """Who says so: api, csv, user ..."""


def prediction_id(request_id: str, item: int) -> str:
    """The name of one answered item, the same in every arm."""
    return f"{request_id}-{item}"


def sampled(request_id: str, rate: float) -> bool:
    """Whether the request belongs to the share `rate` (0..1) that leaves events: the same answer on every machine."""
    return int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8], "big") < rate * 2**64
