"""Which requests pass to which arm; the arms' clusters are in envoy_clusters.py.

What is not named here (shared memory, repository control, trace and log settings, streams without a size limit) does
not exist from outside. envoy_shares.py reads back what is in force.
"""

from serving.gateway.edge import ROUTES, TYPE, Arm, EdgeConfig, Json, Split
from serving.gateway.envoy_clusters import GATEWAY, PROTOCOLS, aside
from serving.gateway.envoy_filters import open_to_all

OPEN_PATHS = "/healthz|/readyz|/v1/openapi[.]json"
"""Of the gateway, without a key: probes, and what describes the service."""
NO_RELEASE = "no release is stable here; `titrate run WORKLOAD --data DIR` makes one, then `titrate stack up`"
HEALTH_PATHS = "/v2/health/(live|ready)"
SERVER_PATHS = "/v2(/|/models/stats)?"
INFER_PATHS = "/v2/models/{}(/versions/[0-9]+)?/infer"
MODEL_PATHS = "/v2/models/{}(/versions/[0-9]+)?(/|/infer|/ready|/stats|/config)?"
GRPC_METHODS = "ServerLive|ServerReady|ServerMetadata|ModelReady|ModelMetadata|ModelConfig|ModelStatistics|ModelInfer"
GRPC_PATHS = f"/inference[.]GRPCInferenceService/({GRPC_METHODS})"
GRPC_INFER = "/inference[.]GRPCInferenceService/ModelInfer"
WORKLOAD_HEADER = "x-titrate-workload"
"""A gRPC path does not name the model: with several workloads the caller says which, else the first one answers."""
ARM_HEADER = "x-titrate-arm"
"""Of a request: which arm answers, for the events of the model. Of an answer: which arm gave it."""
TESTER = "tester"
"""What a server is told of requests that chose their arm: they are no evidence."""


def routes(config: EdgeConfig) -> Json:
    """The one table of routes, first match wins; without a release every path says so with 503."""
    table = [route for workload in config.workloads() for route in _workload_routes(config, workload)]
    if table:
        if config.gateway_port is not None:
            table[:0] = _gateway_routes(config)
        first = config.workloads()[0]
        health = _rest_of(config, first, {"safe_regex": {"regex": HEALTH_PATHS}}, "rest")
        table.append({**health, **open_to_all()})
        table.append(_rest_of(config, first, {"safe_regex": {"regex": SERVER_PATHS}}, "rest"))
        table.append(_weighted(config, first, {"safe_regex": {"regex": GRPC_INFER}, "grpc": {}}, "grpc"))
        table.append(_rest_of(config, first, {"safe_regex": {"regex": GRPC_PATHS}, "grpc": {}}, "grpc"))
        table.append(_answer(404, "there is nothing at this path"))
    else:
        table.append(_answer(503, NO_RELEASE))
    return {
        "@type": f"{TYPE}.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": table}],
    }


def _workload_routes(config: EdgeConfig, workload: str) -> list[Json]:
    """Inference by weight; what else may be asked of a model goes to its largest arm, and is no evidence."""
    named = {"headers": [{"name": WORKLOAD_HEADER, "string_match": {"exact": workload}}]}
    infer: dict[str, Json] = {
        "rest": {"safe_regex": {"regex": INFER_PATHS.format(workload)}},
        "grpc": {"safe_regex": {"regex": GRPC_INFER}, "grpc": {}, **named},
    }
    other: dict[str, Json] = {
        "rest": {"safe_regex": {"regex": MODEL_PATHS.format(workload)}},
        "grpc": {"safe_regex": {"regex": GRPC_PATHS}, "grpc": {}, **named},
    }
    split = config.split(workload)
    testers = [route for p in PROTOCOLS for route in (_tester_routes(config, split, other[p], p) if split else ())]
    weighted = [_weighted(config, workload, infer[protocol], protocol) for protocol in PROTOCOLS]
    return [*testers, *weighted, *(_rest_of(config, workload, other[protocol], protocol) for protocol in PROTOCOLS)]


def _rest_of(config: EdgeConfig, workload: str, match: Json, protocol: str) -> Json:
    largest = max(config.of(workload), key=lambda arm: arm.weight)
    return _route(config, match, {"cluster": aside(largest, protocol)})


def _weighted(config: EdgeConfig, workload: str, match: Json, protocol: str) -> Json:
    """By weight; the candidate comes first, so that with a hashed header raising its weight takes users from stable
    and never from the candidate (a hash below the weight goes to the candidate)."""
    split = config.split(workload)
    arms = sorted((arm for arm in config.of(workload) if arm.weight), key=lambda arm: arm.name)
    weighted = [
        {"name": arm.cluster(protocol), "weight": arm.weight, "request_headers_to_add": _arm_headers(arm)}
        for arm in arms
    ]
    action: Json = {"weighted_clusters": {"clusters": weighted}}
    if split and split.sticky_header:
        action["weighted_clusters"]["use_hash_policy"] = True
        action["hash_policy"] = [{"header": {"header_name": split.sticky_header}}]
    if split and split.shadow:
        action["request_mirror_policies"] = [_mirror(split, protocol)]
    return _route(config, match, action)


def _mirror(split: Split, protocol: str) -> Json:
    """Copies keep the id of the request, so that both answers to one input can be compared."""
    return {
        "cluster": Arm.cluster_name(protocol, split.workload, "candidate", split.candidate),
        "runtime_fraction": {"default_value": {"numerator": split.shadow, "denominator": "HUNDRED"}},
        "request_headers_mutations": [{"append": _header(ARM_HEADER, "candidate")}],
    }


def _tester_routes(config: EdgeConfig, split: Split, match: Json, protocol: str) -> list[Json]:
    """One for each arm and way to name it, header or cookie."""
    found = []
    for name, release in (("candidate", split.candidate), ("stable", split.stable)):
        cookie = {"safe_regex": {"regex": f"(.*; *)?{split.tester_header}={name}(;.*)?"}}
        arm = config.arm(split.workload, name, release)
        for where in (
            {"name": split.tester_header, "string_match": {"exact": name}},
            {"name": "cookie", "string_match": cookie},
        ):
            chosen = {**match, "headers": [*match.get("headers", ()), where]}
            found.append(_route(config, chosen, {"cluster": aside(arm, protocol)}, TESTER))
    return found


def _route(config: EdgeConfig, match: Json, action: Json, told: str = "") -> Json:
    """A route whose answers name the arm and the release that gave them, also after another arm was tried first.

    `told`: the arm that the server is told, where the action does not say.
    """
    return {
        "match": match,
        "route": {**action, **_patience(config)},
        "response_headers_to_add": [
            _header("x-titrate-release", "%UPSTREAM_METADATA(titrate:release)%"),
            _header(ARM_HEADER, "%UPSTREAM_METADATA(titrate:arm)%"),
        ],
        **({"request_headers_to_add": [_header(ARM_HEADER, told)]} if told else {}),
    }


def _gateway_routes(config: EdgeConfig) -> list[Json]:
    action = {"route": {"cluster": GATEWAY, **_patience(config)}}
    return [
        {"match": {"safe_regex": {"regex": OPEN_PATHS}}, **action, **open_to_all()},
        {"match": {"prefix": "/v1/"}, **action},
    ]


def _patience(config: EdgeConfig) -> Json:
    """Time limit and retries: all that passes is idempotent, and a crashed server is back within about 3 seconds."""
    retry = {
        "retry_on": "connect-failure,refused-stream,reset",
        "num_retries": 10,
        "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"},
        "retry_priority": {  # another server of the cluster, where it has one
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": f"{TYPE}.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        },
    }
    return {"timeout": f"{config.timeout_seconds}s", "retry_policy": retry}


def _arm_headers(arm: Arm) -> list[Json]:
    """What the server is told, and for a candidate: tried once more, at stable, also after a server error."""
    told = [_header(ARM_HEADER, arm.name)]
    if arm.name != "candidate":
        return told
    return [
        *told,
        _header("x-envoy-retry-on", "5xx"),
        _header("x-envoy-retry-grpc-on", "internal,unavailable"),
        _header("x-envoy-max-retries", "1"),
    ]


def _answer(status: int, text: str) -> Json:
    return {"match": {"prefix": "/"}, "direct_response": {"status": status, "body": {"inline_string": text}}}


def _header(key: str, value: str) -> Json:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
