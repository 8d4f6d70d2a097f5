"""What Envoy is told, as one typed configuration; envoy.py turns it into the files that Envoy reads."""

from typing import Any, Self

from pydantic import Field, model_validator

from core.config import Config
from serving.gateway.access import Access

ROUTES = "edge"
"""Name of the route configuration that all listeners share."""
TYPE = "type.googleapis.com/envoy"
Json = dict[str, Any]


class Arm(Config):
    """What receives one share of a workload's traffic."""

    workload: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    name: str = Field(pattern=r"^[a-z]+$")
    """stable, candidate or baseline."""
    release: str = Field(pattern=r"^[0-9a-f]{12,64}$")
    """Digest of the release; every answer carries it in the header `x-titrate-release`."""
    http_port: int
    grpc_port: int
    weight: int = Field(ge=0)
    """Share of the workload's traffic, relative to its other arms; 0 keeps the arm known, and idle."""

    def cluster(self, protocol: str) -> str:
        """Name of the arm's cluster in Envoy; `protocol` is `rest` or `grpc`."""
        return self.cluster_name(protocol, self.workload, self.name, self.release)

    @staticmethod
    def cluster_name(protocol: str, workload: str, name: str, release: str) -> str:
        """How the clusters of an arm are called."""
        return f"{protocol}-{workload}-{name}-{release[:12]}"


class Split(Config):
    """How the requests of one workload find their arm."""

    workload: str
    stable: str
    """Release of the stable arm; what the candidate's server fails at is tried once more there."""
    candidate: str
    """Release of the candidate's arm."""
    shadow: int = Field(default=0, ge=0, le=100)
    """Share of all requests that are copied to the candidate, percent; its answers to them are thrown away."""
    sticky_header: str | None = None
    """Requests with one value of it stay in one arm; raising the candidate's weight moves them one way only."""
    tester_header: str = "x-titrate-arm"
    """A request (header or cookie) that names an arm gets it, and is no evidence."""


class EdgeConfig(Config):
    """Everything Envoy is told."""

    port: int
    """Where clients connect."""
    internal_port: int
    """The same routes on the loopback address, for our own services."""
    admin_port: int
    """Envoy's own interface, on the loopback address."""
    access_log: str
    """Path of the log: one JSON object for each request, without bodies."""
    gateway_port: int | None = None
    """Where the gateway listens on the loopback address; without one `/v1` does not exist."""
    arms: tuple[Arm, ...] = ()
    splits: tuple[Split, ...] = ()
    """Of the workloads that have a candidate; elsewhere the weights alone decide."""
    access: Access = Access()
    """Who may ask at `port`, how often and how much."""
    timeout_seconds: float = 30.0
    """From the whole request to the whole answer, retries included."""

    @model_validator(mode="after")
    def _arms_differ(self) -> Self:
        names = [arm.cluster("") for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError("two arms have the same workload, name and release")
        for split in self.splits:
            for name, release in (("stable", split.stable), ("candidate", split.candidate)):
                if Arm.cluster_name("", split.workload, name, release) not in names:
                    raise ValueError(f"the split of {split.workload!r} names an unknown {name} {release[:12]!r}")
        return self

    def workloads(self) -> list[str]:
        """What gets traffic, in order of their first arm."""
        return list(dict.fromkeys(arm.workload for arm in self.arms if arm.weight))

    def of(self, workload: str) -> list[Arm]:
        """The arms of one workload."""
        return [arm for arm in self.arms if arm.workload == workload]

    def split(self, workload: str) -> Split | None:
        """How this workload's requests find their arm; None where it has no candidate that is known."""
        return next((split for split in self.splits if split.workload == workload), None)

    def arm(self, workload: str, name: str, release: str) -> Arm:
        """One arm; raises StopIteration where it is not known."""
        return next(arm for arm in self.of(workload) if (arm.name, arm.release) == (name, release))
