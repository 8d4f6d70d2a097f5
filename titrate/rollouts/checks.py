"""Requests to the candidate alone, before its first traffic (L04): warm-up, and smoke tests whose answers are known.

What can be known of any release without its data: it answers, it says it is the release that asks to serve, the same
picture gets the same answer alone and in a batch, and what is no picture is refused by itself, not with its neighbours.
"""

import io
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
from PIL import Image

from core.errors import PermanentError, TemporaryError
from serving.rollout.spec import Check, RolloutSpec
from titrate.predict import HEADER, decode, encode

BATCH = 8
SIDE = 96
TIMEOUT = 30.0
"""Seconds for one request."""


def run_check(address: str, check: Check, spec: RolloutSpec) -> str:
    """What was found at the candidate's own address. Raises PermanentError when the check fails, TemporaryError when
    the server does not answer."""
    with httpx.Client(base_url=address, timeout=TIMEOUT, trust_env=False) as client:
        if check.kind == "warm_up":
            return _warm_up(client, check, spec)
        return _smoke(client, check, spec)


def _warm_up(client: httpx.Client, check: Check, spec: RolloutSpec) -> str:
    for number in range(check.requests):
        _ask(client, spec, pictures(1 + number % BATCH, number))
    return f"{check.requests} requests answered"


def _smoke(client: httpx.Client, check: Check, spec: RolloutSpec) -> str:
    for number in range(check.requests):
        batch = pictures(BATCH, number)
        together = _ask(client, spec, [*batch[:-1], b"no picture"])
        if not together["error"][-1] or any(together["error"][:-1]):
            raise PermanentError(f"check {check.name!r}: of a batch with one broken picture, not that one alone failed")
        chosen = number % (BATCH - 1)
        alone = _ask(client, spec, [batch[chosen]])
        if alone["label"][0] != together["label"][chosen]:
            raise PermanentError(
                f"check {check.name!r}: one picture is {alone['label'][0]!r} alone and {together['label'][chosen]!r} "
                "in a batch"
            )
    return f"{2 * check.requests} requests answered as they must be"


def _ask(client: httpx.Client, spec: RolloutSpec, contents: Sequence[bytes]) -> dict[str, list[Any]]:
    body, length = encode(contents)
    try:
        answer = client.post(f"/v2/models/{spec.workload}/infer", content=body, headers={HEADER: str(length)})
    except httpx.TransportError as error:
        raise TemporaryError(f"the candidate does not answer: {error!r}") from error
    if not answer.is_success:
        raise PermanentError(f"the candidate answers {answer.status_code}: {answer.text[:200]}")
    found = decode(answer.content, int(answer.headers[HEADER]))
    if set(found["release"]) != {spec.candidate}:
        raise PermanentError(f"the candidate's server says it is {sorted(set(found['release']))}")
    return found


def pictures(number: int, seed: int) -> list[bytes]:
    """Noise as PNG: the same for the same seed."""
    random = np.random.default_rng(seed)
    return [_png(random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)) for _ in range(number)]


def _png(pixels: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()
