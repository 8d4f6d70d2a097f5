"""The client against a whole service: a real Triton, the gateway, the feedback service."""

import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest
from titrate_client import AsyncClient, BadImageError, Client, Model, Refusal, RequestError, UnavailableError
from titrate_client.rpc import GrpcClient

from tests.colours import LABELS, RELEASE, picture


@pytest.fixture
def client(service):
    with Client(service, "pills") as opened:
        yield opened


@pytest.fixture
def rpc(triton):
    with GrpcClient(triton.grpc_url, "pills") as opened:
        yield opened


def test_an_answer_has_all_its_fields(client):
    answer = client.predict(picture("green"))
    assert (answer.label, answer.abstain, answer.release) == ("green", False, RELEASE)
    assert answer.top[0] == (answer.label, answer.probability)
    assert sorted(label for label, _ in answer.top) == sorted(LABELS)
    assert sum(probability for _, probability in answer.top) == pytest.approx(1.0)
    assert answer.prediction_id.endswith("-0")


def test_a_path_bytes_an_array_and_grpc_get_equal_answers(client, rpc, tmp_path):
    (tmp_path / "a.png").write_bytes(picture((200, 190, 20)))
    pixels = np.full((48, 48, 3), (200, 190, 20), np.uint8)
    images = (tmp_path / "a.png", picture((200, 190, 20)), pixels)
    answers = [one.predict(image) for one in (client, rpc) for image in images]
    for answer in answers:
        assert answer.label == answers[0].label
        assert answer.top == tuple((label, pytest.approx(p, abs=1e-5)) for label, p in answers[0].top)
    assert len({answer.prediction_id for answer in answers}) == len(answers)


def check_batch(answers, colours):
    assert isinstance(answers[9], Refusal)
    assert answers[9].code == "not_an_image"
    assert [answer.label for i, answer in enumerate(answers) if i != 9] == [c for i, c in enumerate(colours) if i != 9]
    assert len({answer.prediction_id for answer in answers}) == len(answers)


def test_a_batch_keeps_its_order_and_a_bad_image_costs_no_other(client, rpc, service):
    colours = [LABELS[i % 3] for i in range(21)]
    images = [picture(colour) for colour in colours]
    images[9] = b"not an image"

    async def run():
        async with AsyncClient(service, "pills") as opened:
            return await opened.predict_batch(images)

    check_batch(client.predict_batch(images), colours)
    check_batch(rpc.predict_batch(images), colours)
    check_batch(asyncio.run(run()), colours)
    assert client.predict_batch([]) == []


def test_a_bad_image_alone_is_an_error(client, rpc):
    for one in (client, rpc):
        with pytest.raises(BadImageError, match="not_an_image") as refused:
            one.predict(b"not an image")
        assert refused.value.refusal.prediction_id.endswith("-0")


def test_labels_come_back_with_what_became_of_them(client):
    prediction = client.predict(picture()).prediction_id
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert client.label(prediction, "red", at).result == "waiting"
    results = client.label_batch([(prediction, "red"), (prediction, "blue"), ("a b", "red")])
    assert [row.result for row in results] == ["duplicate", "contradicts", "invalid"]
    assert results[0].prediction_id == prediction


def test_the_models_are_listed(client):
    assert client.models() == [Model("pills", ("1",), 8)]


def test_the_async_client_does_the_same(service):
    async def run():
        async with AsyncClient(service, "pills") as client:
            answer = await client.predict(picture("blue"))
            label = await client.label(answer.prediction_id, "blue")
            with pytest.raises(BadImageError):
                await client.predict(b"x")
            return answer, label, await client.models()

    answer, label, models = asyncio.run(run())
    assert (answer.label, label.result, models[0].max_batch) == ("blue", "waiting", 8)


def test_an_unknown_model_is_refused(service, triton):
    with Client(service, "pils") as client, pytest.raises(RequestError, match="pils"):
        client.predict(picture())
    with GrpcClient(triton.grpc_url, "pils") as client, pytest.raises(RequestError, match="pils"):
        client.predict(picture())


def test_a_grpc_service_that_is_away_is_unavailable():
    with GrpcClient("127.0.0.1:1", "pills", timeout=2.0) as client, pytest.raises(UnavailableError):
        client.predict(picture())


def test_keys_travel_in_headers():
    with Client("http://localhost", "pills", api_key="k", bearer="t") as client:
        assert client._http.headers["x-api-key"] == "k"
        assert client._http.headers["authorization"] == "Bearer t"
