"""The clusters of Envoy: the servers behind each arm, and the gateway.

A candidate's cluster has stable's server behind its own: what the candidate refuses, drops or answers with a server
error is tried once more there (envoy_routes.py), and the answer names who gave it.
"""

from typing import Any

from serving.gateway.access import LOOPBACK
from serving.gateway.edge import TYPE, Arm, EdgeConfig, Json
from serving.gateway.envoy_listeners import address

GATEWAY = "gateway"
PROTOCOLS = ("rest", "grpc")
HTTP: dict[str, Json] = {"rest": {"http_protocol_options": {}}, "grpc": {"http2_protocol_options": {}}}


def clusters(config: EdgeConfig) -> list[Json]:
    """For each arm two, REST (HTTP/1.1) and gRPC (HTTP/2), and two more for what is no evidence; the gateway's."""
    most = config.access.policy.max_in_flight
    found = []
    for arm in config.arms:
        split = config.split(arm.workload)
        is_candidate = split is not None and (arm.name, arm.release) == ("candidate", split.candidate)
        behind = config.arm(arm.workload, "stable", split.stable) if split and is_candidate else None
        for protocol in PROTOCOLS:
            found.append(_arm_cluster(arm, protocol, arm.cluster(protocol), behind, most))
            found.append(_arm_cluster(arm, protocol, aside(arm, protocol), None, most))
    if config.gateway_port is not None:
        found.append(_cluster(GATEWAY, "rest", [_endpoint(config.gateway_port)], most))
    return found


def aside(arm: Arm, protocol: str) -> str:
    """Name of the cluster for requests to an arm that are no evidence: testers', and those that infer nothing."""
    return Arm.cluster_name(protocol, arm.workload, f"{arm.name}_aside", arm.release)


def _arm_cluster(arm: Arm, protocol: str, name: str, behind: Arm | None, most: int) -> Json:
    """`behind`: the arm that is asked when this one failed."""
    return _cluster(name, protocol, [_arm_endpoint(one, protocol) for one in (arm, behind) if one], most)


def _cluster(name: str, protocol: str, servers: list[Json], most: int) -> Json:
    """`servers`: the first is asked, the next when it failed; `most` requests at one moment, above it 503.

    Over HTTP/1.1 each request has a connection, over HTTP/2 they share one.
    """
    limits = {"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": 4 * most}
    options = {
        "@type": f"{TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": "60s"},
        "explicit_http_config": HTTP[protocol],
    }
    places = [{"priority": priority, "lb_endpoints": [server]} for priority, server in enumerate(servers)]
    return {
        "@type": f"{TYPE}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": name, "endpoints": places},
    }


def _arm_endpoint(arm: Arm, protocol: str) -> Json:
    facts: dict[str, Any] = {"titrate": {"release": arm.release, "arm": arm.name}}
    port = arm.http_port if protocol == "rest" else arm.grpc_port
    return {**_endpoint(port), "metadata": {"filter_metadata": facts}}


def _endpoint(port: int) -> Json:
    return {"endpoint": {"address": address(LOOPBACK, port)}}
