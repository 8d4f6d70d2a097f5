"""Which router, servers, observer and effects a ModelRollout gets: the one place where they are put together."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import httpx

from core import audit
from core.config import Config
from serving.rollout.cluster.canaries import Canaries
from serving.rollout.cluster.inference_services import InferenceServices
from serving.rollout.cluster.kube import GRPC_ROUTES, HTTP_ROUTES, Kind, Kube
from serving.rollout.cluster.one_service import OneService
from serving.rollout.cluster.revisions import Revisions
from serving.rollout.observers.envoy_gateway import EnvoyGateway, gateway_of
from serving.rollout.observers.samples import Pods, Prometheus, Sources
from serving.rollout.observers.servers import ServerCounts
from serving.rollout.ports import Observer, Router, Servers
from serving.rollout.routers.gateway_api import GatewayRouter
from serving.rollout.routers.knative import KnativeRouter
from serving.rollout.routers.kserve_canary import CanaryRouter
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
    kserve_namespace: str = "kserve"
    """Where KServe's controller runs (TITRATE_KSERVE_NAMESPACE)."""
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
            "kserve_namespace": os.environ.get("TITRATE_KSERVE_NAMESPACE"),
            "registry": os.environ.get("TITRATE_REGISTRY"),
        }
        return cls.model_validate({name: value for name, value in given.items() if value})


class Routes(Router, Protocol):
    """A router of the cluster."""

    def stable(self) -> str:
        """Name of the InferenceService that is the stable arm. Raises PermanentError where it cannot be told."""


class Arms(Servers, Protocol):
    """Who runs the candidate on the cluster."""

    def release_of(self, name: str) -> str:
        """Digest of the release that the stable InferenceService serves; its name when Titrate did not make it."""

    def address(self, release: str) -> str:
        """Where the candidate answers by itself."""

    def check(self, release: str) -> None:
        """Raise UserError where the candidate cannot be started."""


class Counts(Observer, Protocol):
    """Who counts on the cluster."""

    def check(self, spec: RolloutSpec) -> None:
        """Raise UserError for what is not counted."""


class Ports(NamedTuple):
    """What a reconciler gets, in its order."""

    router: Routes
    servers: Arms
    observer: Counts
    effects: Effects

    def release(self) -> str:
        """The release that serves now."""
        return self.servers.release_of(self.router.stable())

    def check(self, spec: RolloutSpec) -> None:
        """Refuse, before anything is changed, what one of them cannot do. Raises UserError."""
        self.router.check(spec)
        self.servers.check(spec.candidate)
        self.observer.check(spec)


class Place(NamedTuple):
    """Where a ModelRollout applies."""

    settings: Settings
    kube: Kube
    http: httpx.Client
    namespace: str

    def prometheus(self, wanted: Wanted) -> Prometheus | None:
        """The Prometheus that the resource names."""
        stats = wanted.extra.target.stats
        return Prometheus(self.http, stats) if stats else None


def ports(settings: Settings, kube: Kube, http: httpx.Client, wanted: Wanted, resource: Json) -> Ports:
    """The ports of one ModelRollout. Raises UserError for one that cannot be."""
    place = Place(settings, kube, http, resource["metadata"]["namespace"])
    made = _over_routes if wanted.extra.target.router == "gateway_api" else _over_one_service
    router, servers, observer = made(place, wanted)
    release = str(wanted.fields["candidate"])
    effects = Effects(
        kube,
        http,
        resource,
        lambda: servers.address(release),
        Aliases(http, settings.registry).point if settings.registry else None,
        _record(settings.root / place.namespace / "audit.jsonl", resource["metadata"]["name"]),
    )
    return Ports(router, servers, observer, effects)


def _over_routes(place: Place, wanted: Wanted) -> tuple[Routes, Arms, Counts]:
    """Two InferenceServices behind routes of ours."""
    routes = _routes(place.kube, place.namespace, wanted)
    release = str(wanted.fields["candidate"])
    router: GatewayRouter

    def stable() -> str:
        return router.stable()

    storage = wanted.extra.target.storage_uri
    servers = InferenceServices(place.kube, place.namespace, wanted.workload, stable, storage)
    router = GatewayRouter(place.kube, place.namespace, routes, servers.name(release), release)
    prometheus = place.prometheus(wanted)
    sources = prometheus or _pods(place, routes[HTTP_ROUTES])
    return router, servers, EnvoyGateway(place.kube, place.namespace, routes, sources, prometheus)


def _over_one_service(place: Place, wanted: Wanted) -> tuple[Routes, Arms, Counts]:
    """Both arms in one InferenceService, which KServe splits."""
    target, release = wanted.extra.target, str(wanted.fields["candidate"])
    name = target.inference_service or wanted.workload.replace("_", "-")
    service = OneService(place.kube, place.namespace, name, wanted.workload, target.storage_uri)
    observer = ServerCounts(service, place.http, place.prometheus(wanted))
    if target.router == "knative":
        return KnativeRouter(service, release), Revisions(service), observer
    return CanaryRouter(service, release, place.settings.kserve_namespace), Canaries(service), observer


def stored(folder: Path) -> Json | None:
    """The ModelRollout's spec that a rollout runs by; None where the operator died before it was written."""
    file = folder / "resource.json"
    return dict(json.loads(file.read_text())) if file.exists() else None


def _routes(kube: Kube, namespace: str, wanted: Wanted) -> dict[Kind, str]:
    """The routes to own: the HTTPRoute, and the GRPCRoute where there is one."""
    target = wanted.extra.target
    http = target.http_route or wanted.workload
    grpc = target.grpc_route if target.grpc_route is not None else http
    if target.grpc_route is None and kube.get(GRPC_ROUTES, namespace, http) is None:
        grpc = ""
    return {HTTP_ROUTES: http, **({GRPC_ROUTES: grpc} if grpc else {})}


def _pods(place: Place, route: str) -> Sources:
    def labels() -> dict[str, str]:
        return gateway_of(place.kube, place.namespace, route)

    settings = place.settings
    return Pods(place.kube, place.http, settings.gateway_namespace, labels, settings.gateway_stats_port)


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
