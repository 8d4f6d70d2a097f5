"""Errors and slow answers by arm, as Envoy counted them: every attempt at an arm's own server, copies included.

What the candidate failed at and stable answered instead is the candidate's error and no count of stable's. Testers and
checks go through other clusters, or none, and are no evidence.
"""

from core.errors import TemporaryError
from core.home import Home
from serving.gateway import envoy_admin
from serving.gateway.edge import Arm
from serving.gateway.envoy_clusters import PROTOCOLS
from serving.rollout.metrics import ERRORS, SLOW
from serving.rollout.observations import Arm as ArmName
from serving.rollout.observations import Reading
from serving.rollout.spec import RolloutSpec
from titrate.stack.ports import home_ports
from titrate.stack.state import read_state

Pair = tuple[int, int]
"""(bad, good)."""


class EdgeCounts:
    """The edge of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def of(self, workload: str, release: str, name: str, slow_ms: float) -> dict[str, Pair]:
        """`errors` and `slow` of a release under one name of an arm; raises TemporaryError."""
        mine = {Arm.cluster_name(protocol, workload, name, release) for protocol in PROTOCOLS}
        admin = home_ports(self._home).admin
        tried = [one for one in envoy_admin.attempts(admin) if one.cluster in mine and one.first]
        times = [pair for name, pair in envoy_admin.response_times(admin, slow_ms).items() if name in mine]
        return {
            ERRORS: (sum(one.failed for one in tried), sum(one.answered for one in tried)),
            SLOW: (sum(bad for bad, _ in times), sum(good for _, good in times)),
        }

    def incarnation(self) -> str:
        """Changes when Envoy starts again from zero; raises TemporaryError when the stack is down."""
        state = read_state(self._home)
        pids = [service.pid for service in state.services if service.name == "envoy"] if state else []
        if not pids or pids[0] is None:
            raise TemporaryError("Envoy is not running")
        return str(pids[0])

    def readings(self, spec: RolloutSpec, stamp: float) -> list[Reading]:
        """Both arms' counts since Envoy's start; raises TemporaryError."""
        arms: tuple[tuple[ArmName, str], ...] = (("stable", spec.stable), ("candidate", spec.candidate))
        incarnation = self.incarnation()
        found = []
        for arm, release in arms:
            counts = self.of(spec.workload, release, arm, spec.slow_ms)
            wanted = {metric: pair for metric, pair in counts.items() if metric in spec.sizes}
            found.append(Reading(source="envoy", arm=arm, stamp=stamp, counts=wanted, incarnation=incarnation))
        return found
