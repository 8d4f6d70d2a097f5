"""The registry's aliases over MLflow's REST interface: the operator's image carries no mlflow."""

from typing import Any

import httpx

from core.errors import TemporaryError, UserError

STABLE, CANDIDATE = "stable", "candidate"
SECONDS = 5.0


class Aliases:
    """One MLflow server."""

    def __init__(self, http: httpx.Client, address: str) -> None:
        self._http, self._address = http, f"{address.rstrip('/')}/api/2.0/mlflow"

    def point(self, workload: str, release: str) -> None:
        """Let `stable` name the version of `release`, and `candidate` no longer. A release that is not registered (an
        adopted InferenceService) takes the alias away. Raises TemporaryError when the server does not answer."""
        version = self._version(workload, release)
        if version is None:
            self._call("DELETE", "registered-models/alias", {"name": workload, "alias": STABLE}, fine=(404,))
            return
        self._call("POST", "registered-models/alias", {"name": workload, "alias": STABLE, "version": version})
        named = self._call("GET", "registered-models/alias", {"name": workload, "alias": CANDIDATE}, fine=(400, 404))
        if named and named["model_version"]["version"] == version:
            self._call("DELETE", "registered-models/alias", {"name": workload, "alias": CANDIDATE}, fine=(404,))

    def _version(self, workload: str, release: str) -> str | None:
        query = {"filter": f"name = '{workload}' and tags.digest = '{release}'"}
        found = self._call("GET", "model-versions/search", query).get("model_versions", [])
        return str(found[0]["version"]) if found else None

    def _call(self, method: str, what: str, fields: dict[str, str], fine: tuple[int, ...] = ()) -> dict[str, Any]:
        given: dict[str, Any] = {"params": fields} if method == "GET" else {"json": fields}
        try:
            answer = self._http.request(method, f"{self._address}/{what}", timeout=SECONDS, **given)
        except httpx.HTTPError as error:
            raise TemporaryError(f"the registry does not answer: {error!r}") from error
        if answer.is_success:
            return dict(answer.json())
        if answer.status_code in fine:
            return {}
        kind = UserError if answer.status_code in {400, 401, 403, 404} else TemporaryError
        raise kind(f"the registry refuses {what}: {answer.status_code} {answer.text[:300]}")
