"""Which router, servers, observer and effects a ModelRollout gets: the one place where they are put together."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from core import audit
from core.config import Config
from core.errors import UserError
from serving.rollout.cluster.inference_services import InferenceServices
from serving.rollout.cluster.kube import GRPC_ROUTES, HTTP_ROUTES, Kind, Kube
from serving.rollout.observers.envoy_gateway import EnvoyGateway, gateway_of
from serving.rollout.observers.samples import Pods, Prometheus, Sources
from serving.rollout.routers.gateway_api import GatewayRouter
from serving.rollout.spec import RolloutSpec
from titrate.operator.aliases import Aliases
from titrate.operator.effects import Effects
from titrate.operator.resource import Wanted

Json = dict[str, Any]


class Settings(Config):
    """What the operator's environment says."""

    root: Path = Path("/var/lib/titrate/rollouts")
    """Decision logs; a volume that outlives the pod (TITRATE_ROLLOUTS)."""
    namespaces: tuple[str, ...] = ()
    """Where ModelRollouts are kept; none: in all (TITRATE_NAMESPACES, with commas)."""
    gateway_namespace: str = "envoy-gateway-system"
    """Where Envoy's pods run (TITRATE_GATEWAY_NAMESPACE)."""
    gateway_stats_port: int = 19001
    """Where they export their counters (TITRATE_GATEWAY_STATS_PORT)."""
    registry: str | None = None
    """MLflow server whose aliases move on promotion (TITRATE_REGISTRY); None: none."""

    @classmethod
    def of_environment(cls) -> "Settings":
        """The settings that the environment gives. Raises UserError."""
        given = {
            "root": os.environ.get("TITRATE_ROLLOUTS"),
            "namespaces": tuple(filter(None, os.environ.get("TITRATE_NAMESPACES", "").split(","))),
            "gateway_namespace": os.environ.get("TITRATE_GATEWAY_NAMESPACE"),
            "gateway_stats_port": os.environ.get("TITRATE_GATEWAY_STATS_PORT"),
            "registry": os.environ.get("TITRATE_REGISTRY"),
        }
        return cls.model_validate({name: value for name, value in given.items() if value})


class Ports(NamedTuple):
    """What a reconciler gets, in its order."""

    router: GatewayRouter
    servers: InferenceServices
    observer: EnvoyGateway
    effects: Effects

    def release(self) -> str:
        """The release that serves now."""
        return self.servers.release_of(self.router.stable())

    def check(self, spec: RolloutSpec) -> None:
        """Refuse, before anything is changed, what one of them cannot do. Raises UserError."""
        self.router.check(spec)
        self.servers.check(spec.candidate)
        self.observer.check(spec)


def ports(settings: Settings, kube: Kube, http: httpx.Client, wanted: Wanted, resource: Json) -> Ports:
    """The ports of one ModelRollout. Raises UserError for a router that this cluster does not have."""
    namespace, target = resource["metadata"]["namespace"], wanted.extra.target
    routes = _routes(kube, namespace, wanted)
    router: GatewayRouter

    def stable() -> str:
        return router.stable()

    release = str(wanted.fields["candidate"])
    servers = InferenceServices(kube, namespace, wanted.workload, stable, target.storage_uri)
    name = servers.name(release)
    router = GatewayRouter(kube, namespace, routes, name, release)
    prometheus = Prometheus(http, target.stats) if target.stats else None
    sources = prometheus or _pods(settings, kube, http, namespace, routes[HTTP_ROUTES])
    effects = Effects(
        kube,
        http,
        resource,
        f"http://{name}-predictor.{namespace}.svc",
        Aliases(http, settings.registry).point if settings.registry else None,
        _record(settings.root / namespace / "audit.jsonl", resource["metadata"]["name"]),
    )
    return Ports(router, servers, EnvoyGateway(kube, namespace, routes, sources, prometheus), effects)


def stored(folder: Path) -> Json | None:
    """The ModelRollout's spec that a rollout runs by; None where the operator died before it was written."""
    file = folder / "resource.json"
    return dict(json.loads(file.read_text())) if file.exists() else None


def _routes(kube: Kube, namespace: str, wanted: Wanted) -> dict[Kind, str]:
    """The routes to own: the HTTPRoute, and the GRPCRoute where there is one."""
    target = wanted.extra.target
    if target.router != "gateway_api":
        raise UserError(f"spec.target.router {target.router!r} is not there yet; use 'gateway_api'")
    http = target.http_route or wanted.workload
    grpc = target.grpc_route if target.grpc_route is not None else http
    if target.grpc_route is None and kube.get(GRPC_ROUTES, namespace, http) is None:
        grpc = ""
    return {HTTP_ROUTES: http, **({GRPC_ROUTES: grpc} if grpc else {})}


def _pods(settings: Settings, kube: Kube, http: httpx.Client, namespace: str, route: str) -> Sources:
    def labels() -> dict[str, str]:
        return gateway_of(kube, namespace, route)

    return Pods(kube, http, settings.gateway_namespace, labels, settings.gateway_stats_port)


def _record(log: Path, resource: str) -> Callable[[str, RolloutSpec], None]:
    def record(kind: str, spec: RolloutSpec) -> None:
        audit.append(
            log,
            kind,
            workload=spec.workload,
            release=spec.candidate,
            former=spec.stable,
            why=f"ModelRollout {resource}, spec {spec.digest[:12]}",
        )

    return record
