import contextlib
import os
import socket
import threading
import time

import pytest
import uvicorn


def wait_until(condition, seconds=20.0):
    """Return when `condition()` is true; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


@contextlib.contextmanager
def served(app):
    """The base URL of an ASGI app that a real uvicorn serves on a free port of the loopback address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + 20
            while not server.started:
                assert thread.is_alive() and time.monotonic() < deadline
                time.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def serve():
    """A function that serves an ASGI app until the test ends and returns its URL."""
    with contextlib.ExitStack() as stack:
        yield lambda app: stack.enter_context(served(app))


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """What was written outlives any kill -9 a test can do without fsync, which takes up to 50 ms on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session")
def triton_cache(tmp_path_factory):
    """Where the wheel's server is prepared, once for all tests."""
    return tmp_path_factory.mktemp("triton")


@pytest.fixture(scope="session")
def triton(triton_cache, tmp_path_factory):
    """A real Triton that serves the colour model as `pills`."""
    from serving.triton.server import running
    from tests.colours import RELEASE, write_repository

    with running(write_repository(tmp_path_factory.mktemp("colours")), triton_cache, RELEASE) as server:
        yield server
