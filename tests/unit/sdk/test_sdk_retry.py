import asyncio
import socket
import statistics
import threading

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from titrate_client import AsyncClient, Client, RequestError, UnavailableError, retry

MODELS = b'{"models": [{"workload": "pills", "versions": ["1"], "max_batch": 8}]}'


class BlockingCalls:
    """Runs the async client where a test expects the blocking one."""

    def __init__(self, url, workload, **options):
        self._make = lambda: AsyncClient(url, workload, **options)

    def models(self):
        async def run():
            async with self._make() as client:
                return await client.models()

        return asyncio.run(run())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture(params=[Client, BlockingCalls], ids=["Client", "AsyncClient"])
def client_type(request):
    return request.param


@pytest.fixture
def scripted(serve, monkeypatch):
    """A service that answers with the next (status, headers) of a script; returns (URL, list of requests)."""
    monkeypatch.setattr(retry, "BASE", 0.001)

    def start(*script):
        seen = []

        async def answer(request):
            seen.append(request.url.path)
            status, headers = script[min(len(seen), len(script)) - 1]
            if status == "never":
                await asyncio.Event().wait()
            return Response(MODELS if status == 200 else b'{"error": "no"}', status, headers)

        return serve(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])), seen

    return start


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_service_that_is_away_for_a_moment_is_asked_again(client_type, scripted, status):
    url, seen = scripted((status, {}), (status, {"Retry-After": "0"}), (200, {}))
    with client_type(url, "pills") as client:
        assert client.models()[0].max_batch == 8
    assert len(seen) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 422, 429, 500])
def test_a_refusal_is_never_sent_again(client_type, scripted, status):
    url, seen = scripted((status, {}))
    with client_type(url, "pills") as client, pytest.raises(RequestError) as refused:
        client.models()
    assert (refused.value.status, refused.value.detail, len(seen)) == (status, "no", 1)


def test_a_service_that_stays_away_is_given_up_after_the_retries(client_type, scripted):
    url, seen = scripted((503, {}))
    with client_type(url, "pills", retries=2) as client, pytest.raises(UnavailableError, match=r"503.*attempt 3"):
        client.models()
    assert len(seen) == 3


def test_a_service_that_asks_for_a_long_wait_is_not_waited_for(client_type, scripted):
    url, seen = scripted((503, {"Retry-After": "3600"}))
    with client_type(url, "pills") as client, pytest.raises(UnavailableError):
        client.models()
    assert len(seen) == 1


def test_a_late_answer_is_not_asked_for_again(client_type, scripted):
    url, seen = scripted(("never", {}))
    with client_type(url, "pills", timeout=0.1) as client, pytest.raises(UnavailableError, match="ReadTimeout"):
        client.models()
    assert len(seen) == 1


def test_a_refused_connection_is_tried_again_and_then_reported(client_type, monkeypatch):
    monkeypatch.setattr(retry, "BASE", 0.001)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with client_type(url, "pills", retries=1) as client, pytest.raises(UnavailableError, match="attempt 2"):
            client.models()


def test_a_connection_that_is_cut_is_tried_again(client_type, monkeypatch):
    monkeypatch.setattr(retry, "BASE", 0.001)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(MODELS), MODELS)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def cut_once():
            for reply in (b"", answer):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(10_000)
                    connection.sendall(reply)

        thread = threading.Thread(target=cut_once)
        thread.start()
        with client_type(f"http://127.0.0.1:{listener.getsockname()[1]}", "pills") as client:
            assert client.models()[0].workload == "pills"
        thread.join()


def test_waits_are_spread_from_zero_and_double():
    for attempt, most in enumerate((0.1, 0.2, 0.4, 0.8)):
        waits = [retry.wait(attempt, None) for _ in range(400)]
        assert min(waits) < 0.1 * most < 0.9 * most < max(waits) <= most
        assert statistics.mean(waits) == pytest.approx(most / 2, rel=0.15)
    assert retry.wait(20, None) <= retry.CAP


def test_what_the_service_asks_for_comes_before_the_jitter():
    assert 7.0 <= retry.wait(0, "7") <= 7.1
    assert retry.wait(0, "31") is None
    assert retry.wait(0, "Wed, 21 Oct 2026 07:28:00 GMT") <= 0.1
