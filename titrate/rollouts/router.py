"""The laptop's router: what is asked for is written to `serving.json`, what is in force is read from Envoy.

The supervisor (titrate/stack) is in between: an arm gets its weight once its server is ready and Envoy knows it; from
then on a change is in live traffic some 20 ms after it was asked for.
"""

from typing import TypeVar

from pydantic import JsonValue

from core.errors import TemporaryError, UserError
from core.home import Home
from serving.gateway import envoy_admin
from serving.gateway.envoy import BOUNDS_MS
from serving.gateway.envoy_shares import shares
from serving.rollout.metrics import Compared
from serving.rollout.observations import RouterReport, Weights
from serving.rollout.spec import RolloutSpec, Routing
from titrate.stack.ports import home_ports
from titrate.stack.state import Candidate, Serving, change, read_state, wanted

Value = TypeVar("Value")


class EnvoyRouter:
    """Routes one workload of a home."""

    def __init__(self, home: Home, workload: str, routing: Routing) -> None:
        self._home, self._workload, self._routing = home, workload, routing

    def check(self, spec: RolloutSpec) -> None:
        """Raise UserError when the stack cannot do what the spec asks, or does not serve its stable release."""
        if spec.baseline:
            raise UserError(
                "the laptop's stack runs no third server, so there is no baseline arm; set baseline to false"
            )
        if spec.slow_ms not in BOUNDS_MS:
            nearest = min(BOUNDS_MS, key=lambda bound: abs(bound - spec.slow_ms))
            raise UserError(f"slow_ms {spec.slow_ms:g}: Envoy counts at fixed bounds; the nearest is {nearest}")
        promql = [m.name for m in spec.metrics if isinstance(m, Compared) and m.query and m.query.language == "promql"]
        if promql:
            raise UserError(
                f"metric {promql[0]!r}: the laptop's stack has no Prometheus; give it as SQL over the events"
            )
        served = wanted(self._home).stable.get(self._workload)
        if served != spec.stable:
            told = f"release {served[:12]}" if served else "no release"
            raise UserError(f"the stack serves {told} of {self._workload!r}, not {spec.stable[:12]}")
        if read_state(self._home) is None:
            raise UserError("the stack is not running; `titrate stack up` starts it")

    def store_stable(self) -> dict[str, JsonValue]:
        """What is served now, without the candidate."""
        now = wanted(self._home)
        return {"stable": now.stable.get(self._workload), "kept": now.kept.get(self._workload)}

    def apply(self, weights: Weights) -> None:
        """Ask for these shares; raises UserError when there is no candidate to give some to."""
        self._dose(weights.candidate, {"weight": weights.candidate})

    def shadow(self, percent: int) -> None:
        """Ask for this share of all requests to be copied to the candidate."""
        self._dose(percent, {"shadow": percent})

    def _dose(self, share: int, update: dict[str, int]) -> None:
        def dosed(now: Serving) -> Serving:
            asks = now.candidates.get(self._workload)
            if asks is None and share:
                raise TemporaryError(f"{self._workload!r} has no candidate that runs; it cannot get {share} %")
            if asks is None:
                return now
            headers = {"sticky_header": self._routing.sticky_header, "tester_header": self._routing.tester_header}
            changed = asks.model_copy(update={**update, **headers})
            return now.model_copy(update={"candidates": {**now.candidates, self._workload: changed}})

        change(self._home, dosed)

    def observed_weight(self) -> RouterReport:
        """What Envoy's table of routes says; weights None where Envoy has no table for the workload, or REST and gRPC
        differ. Raises TemporaryError when Envoy does not answer."""
        found = shares(envoy_admin.route_table(home_ports(self._home).admin), self._workload)
        if found is None:
            return RouterReport(weights=None)
        weights = {name: found.weights.get(name, 0) for name in ("stable", "candidate")}
        return RouterReport(weights=Weights(**weights), shadow=found.shadow)

    def promote(self, release: str) -> None:
        """Make the candidate the stable release; the former one stays ready without traffic."""

        def promoted(now: Serving) -> Serving:
            former = now.stable.get(self._workload)
            if former == release:
                return now
            return now.model_copy(
                update={
                    "stable": {**now.stable, self._workload: release},
                    "kept": {**now.kept, self._workload: former} if former else now.kept,
                    "candidates": _without(now.candidates, self._workload),
                }
            )

        change(self._home, promoted)

    def restore(self, stored: dict[str, JsonValue]) -> None:
        """Put back what was stored; a release that was promoted since is the candidate again, without traffic."""
        stable, kept = stored["stable"], stored.get("kept")

        def restored(now: Serving) -> Serving:
            asks = now.candidates.get(self._workload)
            served = now.stable.get(self._workload)
            release = served if served != stable else asks.release if asks else None
            candidates = _without(now.candidates, self._workload)
            return now.model_copy(
                update={
                    "stable": {**now.stable, self._workload: stable},
                    "kept": _without(now.kept, self._workload) | ({self._workload: kept} if kept else {}),
                    "candidates": candidates | ({self._workload: Candidate(release=release)} if release else {}),
                }
            )

        change(self._home, restored)


def _without(found: dict[str, Value], workload: str) -> dict[str, Value]:
    return {name: value for name, value in found.items() if name != workload}
