import base64
import struct
import uuid

import pytest
from pydantic import ValidationError

from core.events import Event, prediction_id, sampled

EVENT = {
    "prediction_id": "r-0",
    "request_id": "r",
    "item": 0,
    "workload": "pills",
    "release": "f" * 64,
    "model_version": "1",
    "arm": "stable",
    "at": "2026-01-01T00:00:00Z",
    "outcome": "ok",
    "latency_ms": 3.2,
}


def test_the_sampled_share_is_the_rate_and_a_higher_rate_keeps_what_a_lower_one_took():
    ids = [uuid.UUID(int=i).hex for i in range(20_000)]
    taken = {rate: {i for i in ids if sampled(i, rate)} for rate in (0.0, 0.01, 0.3, 1.0)}
    assert taken[0.0] == set()
    assert taken[1.0] == set(ids)
    assert len(taken[0.01]) == pytest.approx(200, abs=60)
    assert len(taken[0.3]) == pytest.approx(6000, abs=300)
    assert taken[0.01] < taken[0.3]


def test_sampling_is_frozen_because_models_carry_copies_of_it():
    # The first hex digit of `printf request-0 | sha256sum` is below 8 or not.
    assert [sampled(f"request-{i}", 0.5) for i in range(8)] == [False, True, True, True, True, True, False, False]
    assert prediction_id("abc", 3) == "abc-3"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prediction_id", "a b"),
        ("prediction_id", ""),
        ("item", -1),
        ("at", "2026-01-01T00:00:00"),
        ("latency_ms", float("nan")),
        ("probability", 1.2),
        ("embedding", [0.0, float("inf")]),
        ("embedding", base64.b64encode(struct.pack("<f", float("nan"))).decode()),
        ("embedding", "AAAA"),
        ("embedding", "no base64"),
        ("outcome", "Bad Image"),
        ("colour", "red"),
    ],
)
def test_an_event_that_breaks_the_contract_is_refused(field, value):
    Event.model_validate(EVENT)
    with pytest.raises(ValidationError):
        Event.model_validate(EVENT | {field: value})


def test_an_embedding_comes_as_numbers_or_as_the_bytes_of_them():
    text = base64.b64encode(struct.pack("<3f", 1.0, -2.5, 0.1)).decode()
    numbers = Event.model_validate(EVENT | {"embedding": [1.0, -2.5, 0.1]}).embedding
    assert Event.model_validate(EVENT | {"embedding": text}).embedding == pytest.approx(numbers)
    assert Event.model_validate(EVENT | {"embedding": ""}).embedding == ()
