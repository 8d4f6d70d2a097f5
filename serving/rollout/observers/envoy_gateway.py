"""Counts of both arms as Envoy Gateway's proxies saw them: what the clients got, connection failures included.

Envoy counts by cluster, and Envoy Gateway makes one for each backend of a rule and for each mirror, named by their
places in the route. Testers' rules have clusters of their own, so their requests are no evidence; nor are those of
checks, which do not come through the gateway.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from core.errors import TemporaryError
from serving.rollout.cluster.kube import GRPC_ROUTES, HTTP_ROUTES, Kind, Kube
from serving.rollout.metrics import ERRORS, SLOW
from serving.rollout.observations import Arm, Reading
from serving.rollout.observers import own
from serving.rollout.observers.samples import Prometheus, Sample, Sources
from serving.rollout.routers.backends import MIRROR
from serving.rollout.routers.twins import counting
from serving.rollout.spec import RolloutSpec

Json = dict[str, Any]
PREFIX = "envoy_cluster_"
TOTAL, CLASSES = "upstream_rq_completed", "upstream_rq_xx"
TIMES, COUNT = "upstream_rq_time_bucket", "upstream_rq_time_count"
GRPC_ERRORS = ("grpc_2", "grpc_4", "grpc_13", "grpc_14", "grpc_15")
"""UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS: the codes that are the server's fault, as 5xx is."""
NAMES = tuple(PREFIX + name for name in (TOTAL, CLASSES, TIMES, COUNT, *GRPC_ERRORS))
BOUNDS_MS = (
    0.5,
    1,
    5,
    10,
    25,
    50,
    100,
    250,
    500,
    1000,
    2500,
    5000,
    10000,
    30000,
    60000,
    300000,
    600000,
    1800000,
    3600000,
)
"""Upper bounds of Envoy's histograms."""
OWNER = "gateway.envoyproxy.io/owning-gateway-"
ARMS: tuple[Arm, ...] = ("stable", "candidate")


class EnvoyGateway:
    """`errors` and `slow` of the routes of one workload, and metrics of one's own from a Prometheus."""

    def __init__(
        self, kube: Kube, namespace: str, routes: dict[Kind, str], sources: Sources, prometheus: Prometheus | None
    ) -> None:
        self._kube, self._namespace, self._routes = kube, namespace, routes
        self._sources, self._prometheus = sources, prometheus

    def check(self, spec: RolloutSpec) -> None:
        """Raise UserError for what Envoy does not count."""
        own.check(spec, BOUNDS_MS, "Envoy", self._prometheus)

    def readings(self, spec: RolloutSpec) -> tuple[Reading, ...]:
        """Each rule of each proxy is a source; a cluster that a proxy does not know has counted nothing there.

        Clusters come and go with the shares of their rule, and their counters with them: a sum over rules would fall.
        """
        places = list(self._places())
        if not places:
            raise TemporaryError("the routes have no backends that are named by an arm")
        known = {cluster for _, arms in places for cluster in arms}
        found = self._sources.samples(NAMES, "|".join(sorted(known)))
        stamp = time.time()
        counted = [
            Reading(source=f"envoy/{pod}/{place}", arm=arm, stamp=stamp, counts=_wanted(spec, counts))
            for pod, samples in found.items()
            for place, arms in places
            for arm, counts in _counted(samples, arms, spec.slow_ms).items()
        ]
        return (*counted, *own.queried(self._prometheus, spec, stamp))

    def _places(self) -> Iterator[tuple[str, dict[str, Arm]]]:
        for kind, name in self._routes.items():
            route = self._kube.get(kind, self._namespace, name)
            if route is None:
                raise TemporaryError(f"there is no {kind.plural}/{name} in namespace {self._namespace!r}")
            yield from places(kind, route)


def places(kind: Kind, route: Json) -> Iterator[tuple[str, dict[str, Arm]]]:
    """(rule, its clusters by their name in Envoy with the arm of each) of the rules whose requests are evidence.

    A mirror is the candidate's.
    """
    prefix = {HTTP_ROUTES: "httproute", GRPC_ROUTES: "grpcroute"}[kind]
    place = f"{prefix}/{route['metadata']['namespace']}/{route['metadata']['name']}"
    for number, rule, arms in counting(route):
        named: dict[str, Arm] = {f"{place}/rule/{number}/backend/{index}": arm for index, arm in enumerate(arms)}
        mirrors = [item for item in rule.get("filters", []) if item["type"] == MIRROR]
        named |= {f"{place}/rule/{number}-mirror-{index}": "candidate" for index, _ in enumerate(mirrors)}
        yield f"{place}/rule/{number}", named


def gateway_of(kube: Kube, namespace: str, route: str) -> dict[str, str]:
    """Labels of the pods of the gateway that an HTTPRoute is attached to."""
    found = kube.get(HTTP_ROUTES, namespace, route)
    if found is None:
        raise TemporaryError(f"there is no httproutes/{route} in namespace {namespace!r}")
    parent = found["spec"]["parentRefs"][0]
    return {f"{OWNER}name": parent["name"], f"{OWNER}namespace": parent.get("namespace", namespace)}


def _counted(samples: list[Sample], arms: dict[str, Arm], slow_ms: float) -> dict[Arm, dict[str, tuple[int, int]]]:
    """(bad, good) of both metrics by arm, zeros included."""
    values: dict[tuple[Arm, str], float] = defaultdict(float)
    for name, labels, value in samples:
        arm, short = arms.get(labels["envoy_cluster_name"]), name.removeprefix(PREFIX)
        if arm is None:
            continue
        if short in {TOTAL, COUNT}:
            values[arm, short] += value
        elif short in GRPC_ERRORS or (short == CLASSES and labels["envoy_response_code_class"] == "5"):
            values[arm, ERRORS] += value
        elif short == TIMES and float(labels["le"]) == slow_ms:
            values[arm, TIMES] += value
    return {arm: _pairs(values, arm) for arm in ARMS}


def _pairs(values: dict[tuple[Arm, str], float], arm: Arm) -> dict[str, tuple[int, int]]:
    total, timed = int(values[arm, TOTAL]), int(values[arm, COUNT])
    bad, slow = min(int(values[arm, ERRORS]), total), timed - int(values[arm, TIMES])
    return {ERRORS: (bad, total - bad), SLOW: (slow, timed - slow)}


def _wanted(spec: RolloutSpec, counts: dict[str, tuple[int, int]]) -> dict[str, tuple[int, ...]]:
    return {name: pair for name, pair in counts.items() if name in spec.sizes}
