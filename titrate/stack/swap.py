"""How releases take each other's place without a refused request: pure planning, no process and no file.

A new server is started beside the old one. Once it is ready, Envoy is told of its arm without traffic; once Envoy knows
the arm, traffic may go there; once nothing is in flight to a server that is no longer wanted, it goes. A candidate's
weight moves only after its arm is known, and never before stable's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

Key = tuple[str, str]
"""(workload, digest of a release): one server."""


class ArmKey(NamedTuple):
    """What Envoy knows a server as; a promoted release has two names for a while."""

    workload: str
    name: str
    release: str


@dataclass(frozen=True)
class Lane:
    """The traffic of one workload."""

    stable: str
    candidate: str | None = None
    weight: int = 0
    """Share of the candidate, percent."""
    shadow: int = 0
    """Share of all requests that is copied to the candidate, percent."""


@dataclass(frozen=True)
class Wish:
    """What is wanted for one workload."""

    lane: Lane
    kept: str | None = None
    """A former stable release that stays ready without traffic."""

    def releases(self) -> set[str]:
        """Whose servers are to run."""
        return {release for release in (self.lane.stable, self.lane.candidate, self.kept) if release}


@dataclass(frozen=True)
class Plan:
    """What to do next."""

    start: tuple[Key, ...]
    """Servers to start."""
    routed: dict[str, Lane]
    """Workload -> where its traffic goes."""
    arms: tuple[tuple[ArmKey, int], ...]
    """What Envoy should know, with weights."""
    retire: tuple[Key, ...]
    """Servers to stop once nothing is in flight to them."""


def plan(
    wishes: Mapping[str, Wish],
    routed: Mapping[str, Lane],
    ready: Mapping[Key, bool],
    known: set[ArmKey],
    declared: set[ArmKey],
) -> Plan:
    """The next step.

    `ready`: every server that is not being stopped, and whether it is ready. `known`: arms that Envoy has applied.
    `declared`: arms that it was told of before; they stay as long as their server is ready, for a request may be there.
    """
    lanes = {
        workload: lane
        for workload, wish in wishes.items()
        if (lane := _lane(workload, wish.lane, routed.get(workload), ready, known))
    }
    wanted = {(workload, release) for workload, wish in wishes.items() for release in wish.releases()}
    used = {(workload, release) for workload, lane in lanes.items() for release in (lane.stable, lane.candidate)}
    weights = dict(_weights(lanes))
    arms = {*declared, *weights, *_wanted_arms(wishes)}
    return Plan(
        start=tuple(sorted(wanted - ready.keys())),
        routed=lanes,
        arms=tuple(
            (arm, weights.get(arm, 0))
            for arm in sorted(arms)
            if arm in weights or ready.get((arm.workload, arm.release))
        ),
        retire=tuple(key for key in sorted(ready) if key not in wanted and key not in used),
    )


def _lane(workload: str, wish: Lane, now: Lane | None, ready: Mapping[Key, bool], known: set[ArmKey]) -> Lane | None:
    """Where the traffic of a workload goes next."""

    def usable(name: str, release: str) -> bool:
        return ready.get((workload, release), False) and ArmKey(workload, name, release) in known

    if now and (workload, now.stable) not in ready:
        now = None
    if now and now.candidate and (workload, now.candidate) not in ready:
        now = Lane(now.stable)
    if not (now and now.stable == wish.stable) and not usable("stable", wish.stable):
        return now
    has_candidate = wish.candidate is not None and (
        usable("candidate", wish.candidate) or (now is not None and now.candidate == wish.candidate)
    )
    return wish if has_candidate else Lane(wish.stable)


def _weights(lanes: Mapping[str, Lane]) -> list[tuple[ArmKey, int]]:
    found = []
    for workload, lane in lanes.items():
        found.append((ArmKey(workload, "stable", lane.stable), 100 - lane.weight))
        if lane.candidate:
            found.append((ArmKey(workload, "candidate", lane.candidate), lane.weight))
    return found


def _wanted_arms(wishes: Mapping[str, Wish]) -> set[ArmKey]:
    found = set()
    for workload, wish in wishes.items():
        found |= {ArmKey(workload, "stable", release) for release in (wish.lane.stable, wish.kept) if release}
        found |= {ArmKey(workload, "candidate", release) for release in (wish.lane.candidate,) if release}
    return found
