"""Starts the engines of a home, keeps them running, and exchanges releases under traffic.

One thread: `tick` looks at every child and at what Envoy has applied, does what is due, and returns. What to exchange
is planned in swap.py. `__main__.py` calls it in a process of its own, whose death takes all children with it.
"""

import contextlib
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from core.errors import TemporaryError, UserError
from core.files import write_atomic
from core.home import Home
from serving.gateway import envoy, envoy_admin
from serving.gateway.access import LOOPBACK
from serving.gateway.edge import Arm, EdgeConfig, Split
from serving.gateway.settings import Settings
from serving.triton.server import Ports
from titrate.stack.access import access
from titrate.stack.child import Child
from titrate.stack.ports import HomePorts, is_taken
from titrate.stack.services import (
    envoy_service,
    events_to,
    feedback_service,
    gateway_service,
    loop_service,
    mlflow_service,
    rollouts_service,
    triton_service,
)
from titrate.stack.state import ServiceStatus, Serving, StackState, wanted
from titrate.stack.swap import ArmKey, Key, Lane, Wish, plan

TICK = 0.1
"""Seconds between two looks; the end of a child wakes the supervisor at once."""
DRAIN_WITHIN = 10.0
"""Seconds that requests in flight get when the stack goes down."""
QUIET = 0.3
"""Seconds without a request before a server counts as idle: Envoy's workers learn of new routes one by one."""


@dataclass
class Server:
    """A model server, and since when nobody sends it anything."""

    child: Child
    ports: Ports
    idle_since: float | None = None


class Supervisor:
    """The children of one home and the routes between them."""

    def __init__(self, home: Home, ports: HomePorts) -> None:
        self._home = home
        self._ports = ports
        self._logs = home.stack / "logs"
        self._files = home.stack / "envoy"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._servers: dict[Key, Server] = {}
        self._leaving: list[Server] = []
        self._wanted = Serving()
        self._routed: dict[str, Lane] = {}
        self._serving: dict[str, str] = {}
        self._written = ""
        self._complaint = ""
        self._access = access(home)
        self._edge = self._config((), {})
        self._versions = envoy.write(self._edge, self._files)
        self._is_applied = False
        self._envoy = Child(envoy_service(home, ports, self._files), self._logs)
        self._read_wishes()
        self._gateway_settings = self._settings()
        self._gateway = Child(gateway_service(home, ports, lambda: self._gateway_settings), self._logs)
        self._feedback = Child(feedback_service(home, ports), self._logs)
        self._rollouts = Child(rollouts_service(home), self._logs)
        self._loop = Child(loop_service(home, ports), self._logs)
        self._mlflow = Child(mlflow_service(home, ports), self._logs)

    def tick(self, now: float) -> None:
        """Do what is due; never waits long."""
        for child in self._children():
            child.tick(now)
        self._leaving = [server for server in self._leaving if not server.child.stopped(now)]
        self._look_at_envoy()
        self._read_wishes()
        self._tell_the_gateway()
        self._exchange(now)
        self._report()

    def stop(self) -> None:
        """Answer what is in flight, then end all processes, Envoy first."""
        with contextlib.suppress(TemporaryError):
            envoy_admin.drain(self._ports.admin)
            busy = began = time.monotonic()
            while (now := time.monotonic()) - busy < QUIET and now - began < DRAIN_WITHIN:
                busy = now if envoy_admin.requests_at_the_edge(self._ports.admin) else busy
                time.sleep(TICK / 2)
        self._end([self._envoy])
        self._end([*self._children(), *(server.child for server in self._leaving)])

    def _children(self) -> list[Child]:
        servers = (server.child for server in self._servers.values())
        return [self._envoy, *servers, self._gateway, self._feedback, self._rollouts, self._loop, self._mlflow]

    def _end(self, children: list[Child]) -> None:
        for child in children:
            child.stop(time.monotonic())
        while not all(child.stopped(time.monotonic()) for child in children):
            time.sleep(TICK / 2)

    def _look_at_envoy(self) -> None:
        """Note whether Envoy has applied what was last written, and so who serves."""
        if self._envoy.state != "ready":
            self._is_applied, self._serving = False, {}
        elif not self._is_applied:
            with contextlib.suppress(TemporaryError):
                self._is_applied = envoy_admin.versions(self._ports.admin) == self._versions
        if self._is_applied:
            self._serving = {workload: lane.stable for workload, lane in self._routed.items()}

    def _read_wishes(self) -> None:
        try:
            self._wanted = wanted(self._home)
            self._access = access(self._home)
            self._complaint = ""
        except UserError as error:  # somebody wrote nonsense: what serves goes on
            if str(error) != self._complaint:
                say(str(error))
            self._complaint = str(error)

    def _tell_the_gateway(self) -> None:
        """Start it again when what it must know changed."""
        settings = self._settings()
        if settings != self._gateway_settings:
            self._gateway_settings = settings
            self._gateway.renew()

    def _settings(self) -> Settings:
        return Settings(
            upstream=f"{LOOPBACK}:{self._ports.internal}",
            workloads=tuple(self._wanted.stable),
            feedback_url=f"http://{LOOPBACK}:{self._ports.feedback}",
            max_body=self._access.policy.max_body_bytes,
            url_hosts=self._access.policy.url_hosts,
            url_networks=self._access.policy.url_networks,
        )

    def _exchange(self, now: float) -> None:
        """One step of the plan in swap.py."""
        declared = {ArmKey(arm.workload, arm.name, arm.release) for arm in self._edge.arms}
        ready = {key: server.child.state == "ready" for key, server in self._servers.items()}
        step = plan(wishes(self._wanted), self._routed, ready, declared if self._is_applied else set(), declared)
        self._routed = step.routed
        edge = self._config(step.arms, step.routed)
        if edge != self._edge:
            self._versions = envoy.write(edge, self._files)
            self._edge, self._is_applied = edge, False
            say(f"routes: {[(arm.workload, arm.name, arm.release[:12], arm.weight) for arm in edge.arms]}")
        for key in step.start:
            self._start(key)
        for key in step.retire:
            self._retire(key, now)

    def _start(self, key: Key) -> None:
        used = {server.ports for server in (*self._servers.values(), *self._leaving)}
        free = (slot for slot in self._ports.slots() if slot not in used and not is_taken(slot.http))
        if slot := next(free, None):
            service = triton_service(self._home, *key, slot, events_to(self._ports))
            self._servers[key] = Server(Child(service, self._logs), slot)
        else:
            say(f"no free ports for a server of {key[0]} {key[1][:12]}")

    def _retire(self, key: Key, now: float) -> None:
        """Stop a server once Envoy knows that it gets nothing, and nothing was in flight to it for a while."""
        server = self._servers[key]
        idle = self._is_idle(key)
        server.idle_since = (server.idle_since or now) if idle else None
        if server.child.state != "ready" or (idle and now - (server.idle_since or now) > QUIET):
            server.child.stop(now)
            self._leaving.append(self._servers.pop(key))

    def _is_idle(self, key: Key) -> bool:
        try:
            return self._is_applied and not envoy_admin.active_requests(self._ports.admin, _cluster(key))
        except TemporaryError:
            return False

    def _config(self, arms: tuple[tuple[ArmKey, int], ...], lanes: dict[str, Lane]) -> EdgeConfig:
        return EdgeConfig(
            port=self._ports.edge,
            internal_port=self._ports.internal,
            admin_port=self._ports.admin,
            gateway_port=self._ports.gateway,
            access=self._access,
            access_log=str(self._logs / "access.log"),
            arms=tuple(_arm(arm, self._servers[arm.workload, arm.release].ports, weight) for arm, weight in arms),
            splits=tuple(_split(workload, lane, self._wanted) for workload, lane in lanes.items() if lane.candidate),
        )

    def _report(self) -> None:
        """Write `state.json`, and a line to the log, when something changed."""
        served = ", ".join(f"{workload} {digest[:12]}" for workload, digest in self._serving.items())
        services = tuple(child.status() for child in self._children())
        if services[0].state == "ready":
            told = f"serves {served}" if served else "no release is stable yet"
            services = (services[0].model_copy(update={"detail": told}), *services[1:])
        state = StackState(supervisor=os.getpid(), wanted=self._wanted.stable, serving=self._serving, services=services)
        text = state.model_dump_json(indent=1)
        if text != self._written:
            write_atomic(self._home.stack / "state.json", text)
            self._written = text
            say("; ".join(_line(service) for service in services))


def say(text: str) -> None:
    """One line to the supervisor's log."""
    print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z {text}", flush=True)


def _line(service: ServiceStatus) -> str:
    return f"{service.name} {service.state} {service.detail}".rstrip()


def wishes(serving: Serving) -> dict[str, Wish]:
    """What is wanted, as swap.py plans it; a candidate of a workload without a stable release waits."""
    found = {}
    for workload, stable in serving.stable.items():
        asks, kept = serving.candidates.get(workload), serving.kept.get(workload)
        if asks is None or asks.release == stable:
            found[workload] = Wish(Lane(stable), kept)
        else:
            found[workload] = Wish(Lane(stable, asks.release, asks.weight, asks.shadow), kept)
    return found


def _split(workload: str, lane: Lane, serving: Serving) -> Split:
    asks = serving.candidates.get(workload)
    headers = {"sticky_header": asks.sticky_header, "tester_header": asks.tester_header} if asks else {}
    release = lane.candidate or ""
    return Split(workload=workload, stable=lane.stable, candidate=release, shadow=lane.shadow, **headers)


def _arm(key: ArmKey, ports: Ports, weight: int) -> Arm:
    return Arm(
        workload=key.workload,
        name=key.name,
        release=key.release,
        http_port=ports.http,
        grpc_port=ports.grpc,
        weight=weight,
    )


def _cluster(key: Key) -> str:
    """Matches the names of the server's clusters in Envoy."""
    workload, release = key
    return f"(rest|grpc)-{workload}-[a-z_]+-{release[:12]}"
