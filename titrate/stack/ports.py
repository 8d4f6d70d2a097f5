"""The ports of a home: one block, chosen once from the home's path, so that two homes do not meet."""

import socket
import time

import psutil

from core.config import Config
from core.errors import UserError
from core.files import sha256_bytes, write_atomic
from core.home import Home
from serving.triton.server import LOOPBACK, Ports

FIRST, LAST, BLOCK = 20_000, 30_000, 32
"""Below the range (32768 and up) from which Linux takes the ports of outgoing connections."""
PATIENCE = 2.0
"""Seconds: a killed process keeps its ports for some milliseconds after it seems gone."""
FIXED = 8
"""Ports of a block that belong to single services; the rest goes to Triton servers, three each."""


class HomePorts(Config):
    """`ports.json`."""

    base: int
    edge: int
    """Envoy, for clients."""

    @property
    def internal(self) -> int:
        """Envoy, for our own services."""
        return self.base + 1

    @property
    def admin(self) -> int:
        """Envoy's own interface."""
        return self.base + 2

    @property
    def mlflow(self) -> int:
        """MLflow's user interface and API."""
        return self.base + 3

    @property
    def gateway(self) -> int:
        """The gateway; clients reach it through Envoy."""
        return self.base + 4

    @property
    def feedback(self) -> int:
        """The feedback service: events of the models, labels from the gateway."""
        return self.base + 5

    @property
    def loop(self) -> int:
        """Metrics of the loop."""
        return self.base + 6

    def slots(self) -> list[Ports]:
        """Places for Triton servers."""
        return [Ports(port, port + 1, port + 2) for port in range(self.base + FIXED, self.base + BLOCK - 2, 3)]


def home_ports(home: Home, edge: int | None = None) -> HomePorts:
    """The ports of a home: as recorded, else a free block; `edge` replaces Envoy's port."""
    path = home.stack / "ports.json"
    recorded = HomePorts.from_file(path) if path.exists() else None
    base = recorded.base if recorded else _free_block(home)
    return HomePorts(base=base, edge=edge or (recorded.edge if recorded else base))


def record(home: Home, ports: HomePorts) -> None:
    """Keep the ports for the next time."""
    write_atomic(home.stack / "ports.json", ports.model_dump_json(indent=2))


def require_free(ports: HomePorts) -> None:
    """Raise UserError, naming the process, when a port that the stack must have is taken, and stays so for a while."""
    deadline = time.monotonic() + PATIENCE
    for name, port in (
        ("Envoy", ports.edge),
        ("Envoy's internal listener", ports.internal),
        ("Envoy's admin interface", ports.admin),
        ("MLflow", ports.mlflow),
        ("the gateway", ports.gateway),
        ("the feedback service", ports.feedback),
        ("the loop", ports.loop),
    ):
        while is_taken(port) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_taken(port):
            way_out = "stop it, or choose another port with `titrate stack up --port`"
            if port != ports.edge:
                way_out = "stop it, or remove stack/ports.json below the home: another block is chosen then"
            raise UserError(f"port {port}, for {name}, is taken by {owner(port)}; {way_out}")


def is_taken(port: int) -> bool:
    """Whether somebody listens on the port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is free
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return True
    return False


def owner(port: int) -> str:
    """The process that listens on a port, in words."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            try:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({process.name()}: {' '.join(process.cmdline())[:100]})"
            except psutil.Error:
                break
    return "a process of another user"


def _free_block(home: Home) -> int:
    count = (LAST - FIRST) // BLOCK
    start = int(sha256_bytes(str(home.root).encode())[:8], 16)
    for offset in range(count):
        base = FIRST + BLOCK * ((start + offset) % count)
        if not any(is_taken(port) for port in range(base, base + BLOCK)):
            return base
    raise UserError(f"no free block of {BLOCK} ports between {FIRST} and {LAST}")
