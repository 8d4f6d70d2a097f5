"""The listeners of Envoy: what a connection and a request must be to pass, and the access log.

Both have the same routes; the filters of envoy_filters.py and its TLS stand on the public one alone.
"""

from pathlib import Path

from serving.gateway.access import LOOPBACK
from serving.gateway.edge import ROUTES, TYPE, EdgeConfig, Json
from serving.gateway.envoy_filters import filter_, filters, forget_users, guard, transport
from serving.gateway.envoy_replies import replies

INTERNAL = "internal"


def listeners(config: EdgeConfig, folder: Path) -> list[Json]:
    """The edge, and the internal listener with the same routes."""
    outer, inner = _manager(config, folder, "edge"), _manager(config, folder, INTERNAL)
    outer["http_filters"] = [*filters(config.access), *outer["http_filters"]]
    outer["early_header_mutation_extensions"] = [forget_users()]
    # our own services are trusted: Envoy keeps their x-request-id and obeys their x-envoy-*
    inner["internal_address_config"] = {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}
    return [
        _listener("edge", str(config.access.policy.address), config.port, outer, transport(config.access)),
        _listener(INTERNAL, LOOPBACK, config.internal_port, inner, {}),
    ]


def _listener(name: str, host: str, port: int, manager: Json, security: Json) -> Json:
    network = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "@type": f"{TYPE}.config.listener.v3.Listener",
        "name": name,
        "address": address(host, port),
        "enable_reuse_port": False,  # or two Envoys would silently share a port
        "filter_chains": [{"filters": [network], **security}],
    }


def _manager(config: EdgeConfig, folder: Path, name: str) -> Json:
    """The HTTP side of a listener: limits, one buffered body, the access log."""
    body = filter_(
        "envoy.filters.http.buffer", "buffer.v3.Buffer", max_request_bytes=config.access.policy.max_body_bytes
    )
    return {
        "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "rds": {"route_config_name": ROUTES, "config_source": source(folder / "rds.json")},
        "http_filters": [body, guard(), filter_("envoy.filters.http.router", "router.v3.Router")],
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "use_remote_address": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "60s",
        "request_timeout": "60s",
        "common_http_protocol_options": {"idle_timeout": "300s", "headers_with_underscores_action": "REJECT_REQUEST"},
        "http2_protocol_options": {"max_concurrent_streams": 256},
        "local_reply_config": replies(),
        "access_log": [_access_log(config.access_log, name)],
    }


def _access_log(path: str, listener: str) -> Json:
    fields = {
        "at": "%START_TIME%",
        "listener": listener,
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",
        "protocol": "%PROTOCOL%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS%",
        "flags": "%RESPONSE_FLAGS%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "duration_ms": "%DURATION%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "user": "%REQ(X-TITRATE-USER)%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "traceparent": "%REQ(TRACEPARENT)%",
    }
    typed = {
        "@type": f"{TYPE}.extensions.access_loggers.file.v3.FileAccessLog",
        "path": path,
        "log_format": {"json_format": fields},
    }
    return {"name": "envoy.access_loggers.file", "typed_config": typed}


def address(address: str, port: int) -> Json:
    """A TCP address as Envoy writes it."""
    return {"socket_address": {"address": address, "port_value": port}}


def source(path: Path) -> Json:
    """A file that Envoy reads again when it is replaced."""
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}
