"""Who the operator is at the API server: the pod's service account, else what KUBECONFIG says."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import kopf

from core.errors import UserError
from serving.rollout.cluster.kube import Kube

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Access(httpx.Auth):
    """Names the caller in each request."""

    def __init__(self, found: Any) -> None:
        self._headers = found.as_http_headers()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """A pod's token is replaced every hour, on disk: it is read anew each time."""
        if TOKEN.exists():
            request.headers["authorization"] = f"Bearer {TOKEN.read_text().strip()}"
        else:
            request.headers.update(self._headers)
        yield request


def credentials(**_: Any) -> Any:
    """kopf's ConnectionInfo; also its login handler. Raises UserError where there is none."""
    settings = kopf.OperatorSettings()
    found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if found is None:
        raise UserError("no service account and no KUBECONFIG: run the operator in a pod, or name a cluster")
    return found


def connected(access: Any) -> Kube:
    """The API server that the credentials name."""
    return Kube(
        httpx.Client(base_url=str(access.server), verify=access.as_ssl_context(), auth=Access(access), trust_env=False)
    )
