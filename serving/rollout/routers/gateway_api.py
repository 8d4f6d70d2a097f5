"""The Gateway API's router: one HTTPRoute and one GRPCRoute over two InferenceServices, both ours.

KServe's own route has a single backend and is written anew whenever the InferenceService changes; these are not its.
`twins` says what is written next. Every write can be the last one before a crash: the next call goes on from there.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import JsonValue

from core.errors import PermanentError, TemporaryError, UserError
from serving.rollout.cluster.kube import GRPC_ROUTES, HTTP_ROUTES, Kind, Kube
from serving.rollout.observations import RouterReport, Weights
from serving.rollout.routers import twins
from serving.rollout.routers.backends import ALL_STABLE, ARM, Member, Shares
from serving.rollout.spec import RolloutSpec

Json = dict[str, Any]
PREDICTOR, GRPC = "-predictor", "-grpc"
"""Services of the InferenceService NAME: KServe's own, and the one that Titrate makes for gRPC."""
PORTS = {HTTP_ROUTES: 80, GRPC_ROUTES: 9000}
SUFFIX = {HTTP_ROUTES: PREDICTOR, GRPC_ROUTES: GRPC}
SETTLES = 0.5
"""Seconds from a gateway's word that it took a route over until its proxies surely have it."""
PATIENCE = 4.0
"""Seconds that one call waits for that word; then it is asked for again at the next look."""
WRITES = 8
"""Of one call; no way needs more than six."""


class GatewayRouter:
    """Weights of the workload's HTTPRoute and, where it has one, its GRPCRoute."""

    def __init__(self, kube: Kube, namespace: str, names: dict[Kind, str], candidate: str, release: str) -> None:
        """`candidate`: the name of the InferenceService that serves the digest `release`."""
        self._kube, self._namespace, self._names = kube, namespace, names
        self._candidate, self._release = candidate, release

    def check(self, spec: RolloutSpec) -> None:
        if spec.baseline:
            raise UserError("baseline: true; a route over two InferenceServices has no third arm; leave it out")
        if spec.routing.sticky_header:
            raise UserError(
                f"routing.stickyHeader {spec.routing.sticky_header!r}: a route of the Gateway API chooses an arm for "
                "each request; leave it out"
            )
        if spec.routing.tester_header != ARM:
            raise UserError(f"routing.testerHeader {spec.routing.tester_header!r}: these routes know {ARM!r}")
        self.stable()

    def stable(self) -> str:
        """Name of the InferenceService that is the stable arm. Raises PermanentError where no route says so."""
        for kind, route in self._routes():
            service = twins.stable_member(route).service
            if service.endswith(SUFFIX[kind]):
                return service.removesuffix(SUFFIX[kind])
        raise PermanentError(
            f"the routes {', '.join(self._names.values())} lead to no Service of an InferenceService (NAME{PREDICTOR})"
        )

    def store_stable(self) -> dict[str, JsonValue]:
        return {kind.plural: _content(route) for kind, route in self._routes()}

    def apply(self, weights: Weights) -> None:
        now = {kind: twins.shares(route) or ALL_STABLE for kind, route in self._routes()}
        self._walk(
            lambda kind, route: twins.towards_shares(route, self._member(kind), Shares(weights, now[kind].shadow))
        )

    def shadow(self, percent: int) -> None:
        now = {kind: twins.shares(route) or ALL_STABLE for kind, route in self._routes()}
        self._walk(
            lambda kind, route: twins.towards_shares(route, self._member(kind), Shares(now[kind].weights, percent))
        )

    def observed_weight(self) -> RouterReport:
        """What the gateway says it took over; unknown where it did not yet, and where the two routes differ."""
        found = {twins.shares(route) if twins.accepted(route) else None for _, route in self._routes()}
        one = found.pop() if len(found) == 1 else None
        return RouterReport(weights=one.weights, shadow=one.shadow) if one else RouterReport(weights=None)

    def promote(self, release: str) -> None:
        final = {
            kind: twins.promoted(route, self._member(kind))
            for kind, route in self._routes()
            if twins.laid_out(route) is not None or twins.stable_member(route) != self._member(kind)
        }
        self._walk(
            lambda kind, route: twins.towards_rules(route, self._member(kind), final[kind]) if kind in final else route
        )

    def restore(self, stored: dict[str, JsonValue]) -> None:
        contents = {kind: self._stored(kind, stored) for kind in self._names}
        for kind, name in self._names.items():
            if self._kube.get(kind, self._namespace, name) is None:
                self._kube.create(kind, self._namespace, contents[kind])
        self._walk(lambda kind, route: twins.towards_rules(route, self._member(kind), contents[kind]["spec"]["rules"]))
        self._write(lambda kind, route: {**route, "spec": contents[kind]["spec"]})

    def _walk(self, step: Callable[[Kind, Json], Json]) -> None:
        """Write what `step` says until it says nothing new; the gateway takes over one write before the next."""
        for _ in range(WRITES):
            if not self._write(step):
                return
            self._wait()
        raise PermanentError(f"the routes {', '.join(self._names.values())} do not stay as they are written")

    def _write(self, step: Callable[[Kind, Json], Json]) -> bool:
        """Write what `step` says now; whether it will say more."""
        more = False
        for kind, route in self._routes():
            new = step(kind, route)
            if new != route:
                self._kube.replace(kind, self._namespace, new)
                more = more or step(kind, new) != new
        return more

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not all(twins.accepted(route) for _, route in self._routes()):
            if time.monotonic() > deadline:
                raise TemporaryError(
                    f"the gateway did not take over {', '.join(self._names.values())} yet: {self._why()}"
                )
            time.sleep(0.05)
        time.sleep(SETTLES)

    def _why(self) -> str:
        """What the gateway says against the routes."""
        said = [
            f"{c['type']}: {c.get('message', '')}"
            for _, route in self._routes()
            for parent in route.get("status", {}).get("parents", [])
            for c in parent["conditions"]
            if c["status"] != "True"
        ]
        return "; ".join(said) or "no word from it"

    def _stored(self, kind: Kind, stored: dict[str, JsonValue]) -> Json:
        content = stored.get(kind.plural)
        if not isinstance(content, dict):
            raise PermanentError(f"{kind.plural}/{self._names[kind]}: nothing was stored to put back")
        return dict(content)

    def _member(self, kind: Kind) -> Member:
        return Member(self._candidate + SUFFIX[kind], PORTS[kind], self._release)

    def _routes(self) -> Iterator[tuple[Kind, Json]]:
        for kind, name in self._names.items():
            route = self._kube.get(kind, self._namespace, name)
            if route is None:
                raise TemporaryError(f"there is no {kind.plural}/{name} in namespace {self._namespace!r}")
            yield kind, route


def _content(route: Json) -> Json:
    """A route without what the server writes."""
    kept = {name: route["metadata"][name] for name in ("name", "labels", "annotations") if name in route["metadata"]}
    return {"apiVersion": route["apiVersion"], "kind": route["kind"], "metadata": kept, "spec": route["spec"]}
