import contextlib

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from serving.feedback.app import create_app as create_feedback
from serving.feedback.store import open_store
from serving.gateway.app import create_app
from serving.gateway.settings import Settings
from tests.conftest import served, wait_until


def one_port(v1, v2):
    """An ASGI app that sends /v1 to the gateway and /v2 to Triton, as Envoy does."""

    @contextlib.asynccontextmanager
    async def lifespan(app):
        async with httpx.AsyncClient(headers={"accept-encoding": "identity"}) as app.state.http:
            yield

    async def forward(request):
        base = v1 if request.url.path.startswith("/v1/") else v2
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        content = await request.body()
        answer = await request.app.state.http.request(
            request.method, base + request.url.path, content=content, headers=headers
        )
        kept = {name: value for name, value in answer.headers.items() if name != "transfer-encoding"}
        return Response(answer.content, answer.status_code, kept)

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])], lifespan=lifespan)


@pytest.fixture(scope="session")
def service(triton, tmp_path_factory):
    """URL of a whole service: Triton, gateway and feedback behind one port."""
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('feedback') / 'f.db'}")
    with contextlib.ExitStack() as stack:
        feedback = stack.enter_context(served(create_feedback(store)))
        settings = Settings(upstream=triton.grpc_url, workloads=("pills",), feedback_url=feedback)
        gateway = stack.enter_context(served(create_app(settings)))
        wait_until(lambda: httpx.get(f"{gateway}/readyz").status_code == 200)
        yield stack.enter_context(served(one_port(gateway, triton.http_url)))
    store.engine.dispose()
