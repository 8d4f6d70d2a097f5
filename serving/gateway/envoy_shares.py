"""What a running Envoy does with the traffic of a workload, read from the table of routes that is in force."""

from typing import Any, NamedTuple

from serving.gateway.edge import Json
from serving.gateway.envoy_clusters import PROTOCOLS


class Shares(NamedTuple):
    """Percent of the requests by arm, and of copies to the candidate; the release of each arm, shortened to 12."""

    weights: dict[str, int]
    releases: dict[str, str]
    shadow: int


def shares(table: Json, workload: str) -> Shares | None:
    """What holds for REST and gRPC alike; None where there is no route, or the two differ."""
    found = [one for host in table.get("virtual_hosts", ()) for one in map(_read, host["routes"]) if one]
    mine = {protocol: shares for protocol, name, shares in found if name == workload}
    if set(mine) != set(PROTOCOLS) or mine["rest"] != mine["grpc"]:
        return None
    return mine["rest"]


def _read(route: Json) -> tuple[str, str, Shares] | None:
    """(protocol, workload, shares) of a route that is split by weight."""
    action: Any = route.get("route", {})
    weighted = action.get("weighted_clusters", {}).get("clusters", ())
    parts = [(*part["name"].split("-"), part["weight"]) for part in weighted]
    if not parts:
        return None
    mirrors = action.get("request_mirror_policies", ())
    shadow = mirrors[0]["runtime_fraction"]["default_value"]["numerator"] if mirrors else 0
    weights = {name: weight for _, _, name, _, weight in parts}
    releases = {name: release for _, _, name, release, _ in parts}
    return parts[0][0], parts[0][1], Shares(weights, releases, shadow)
