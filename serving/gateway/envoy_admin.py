"""What a running Envoy says and obeys on its admin port: what it applied, who is still being served, draining."""

import http.client
import json
import re
import urllib.parse
from typing import Any, NamedTuple

from core.errors import TemporaryError

LOOPBACK = "127.0.0.1"
BUCKET = re.compile(
    r'^envoy_cluster_upstream_rq_time_bucket\{envoy_cluster_name="([^"]+)",le="([^"]+)"\} (\d+)$', re.MULTILINE
)
VERSIONS = {
    "cds": "cluster_manager.cds.version_text",
    "lds": "listener_manager.lds.version_text",
    "rds": "http.edge.rds.edge.version_text",
}


def is_ready(port: int) -> bool:
    """Whether Envoy is live and its listeners are open."""
    try:
        return _call(port, "GET", "/ready").strip() == "LIVE"
    except TemporaryError:
        return False


def versions(port: int) -> dict[str, str]:
    """The version of each file (`cds`, `lds`, `rds`) that is in force; raises TemporaryError."""
    found = stats(port, "version_text$")
    return {name: found.get(stat, "").strip('"') for name, stat in VERSIONS.items()}


def active_requests(port: int, prefix: str) -> int:
    """Requests in flight to the clusters whose names start with `prefix`."""
    found = stats(port, f"^cluster[.]{prefix}.*[.]upstream_rq_active$")
    return sum(int(value) for value in found.values())


def requests_at_the_edge(port: int) -> int:
    """Requests of clients in flight, on all listeners."""
    return sum(int(value) for value in stats(port, "^http[.](edge|internal)[.]downstream_rq_active$").values())


def drain(port: int) -> None:
    """Accept no more connections, and tell clients to close theirs with the next answer; what is in flight goes on."""
    _call(port, "POST", "/healthcheck/fail")
    _call(port, "POST", "/drain_listeners")


def stats(port: int, pattern: str) -> dict[str, str]:
    """Envoy's statistics whose names match the regular expression; raises TemporaryError."""
    text = _call(port, "GET", f"/stats?filter={urllib.parse.quote(pattern)}")
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


class Attempts(NamedTuple):
    """What one server was asked through one cluster, and how that ended: every attempt counts, a retried one too."""

    cluster: str
    first: bool
    """The server of the arm itself, not the one behind it."""
    failed: int
    """Answered 5xx (gRPC: the codes that mean it), cut off, refused, or not in time."""
    answered: int


def route_table(port: int) -> dict[str, Any]:
    """The table of routes that is in force, as JSON; empty before the first one. Raises TemporaryError."""
    found = json.loads(_call(port, "GET", "/config_dump?resource=dynamic_route_configs")).get("configs", ())
    table: dict[str, Any] = found[0].get("route_config", {}) if found else {}
    return table


def attempts(port: int) -> list[Attempts]:
    """Counts since Envoy's start, by cluster and server; raises TemporaryError."""
    found = []
    for cluster in json.loads(_call(port, "GET", "/clusters?format=json")).get("cluster_statuses", ()):
        for host in cluster.get("host_statuses", ()):
            counts = {stat["name"]: int(stat.get("value", 0)) for stat in host["stats"]}
            first = host.get("priority", 0) == 0
            found.append(Attempts(cluster["name"], first, counts["rq_error"], counts["rq_success"]))
    return found


def response_times(port: int, bound_ms: float) -> dict[str, tuple[int, int]]:
    """By cluster: (answers slower than `bound_ms`, the others) since Envoy's start; `bound_ms` is one of the bounds of
    the histogram (envoy.py). Raises TemporaryError."""
    text = _call(port, "GET", "/stats/prometheus?filter=upstream_rq_time$")
    le = "+Inf", f"{bound_ms:g}"
    found: dict[str, dict[str, int]] = {}
    for cluster, bound, value in BUCKET.findall(text):
        if bound in le:
            found.setdefault(cluster, {})[bound] = int(value)
    return {name: (counts[le[0]] - counts[le[1]], counts[le[1]]) for name, counts in found.items() if le[1] in counts}


def _call(port: int, method: str, path: str) -> str:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        text = response.read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise TemporaryError(f"Envoy does not answer on its admin port {port}: {error}") from error
    finally:
        connection.close()
    if response.status >= http.HTTPStatus.BAD_REQUEST:
        raise TemporaryError(f"Envoy's admin port {port} answers {response.status} to {path!r}")
    return text
