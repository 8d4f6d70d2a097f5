"""The command line, the environment and the life of one Triton server.

`running` is a short-lived server on free ports, for the evaluate step and for tests. The stack of the laptop
(titrate/stack) supervises long-lived ones from the same parts.
"""

import contextlib
import http.client
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess  # nosec B404 # to start the server
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from core.errors import PermanentError, TemporaryError, UserError
from core.process import die_with_parent
from serving.triton.events import Settings
from serving.triton.wheel import library_path, prepare, server_binary

LOOPBACK = "127.0.0.1"
READY_WITHIN = 60.0
"""Seconds; a start takes 2 to 4 on two cores."""
STOP_WITHIN = 15.0
"""Seconds from SIGTERM to SIGKILL: an idle server was seen to need 12."""
LOG_LINES = 15
ERROR_LINE = re.compile(r"[EF]\d{4} (?!.*CudaDriverHelper)")
"""Triton always complains that there is no CUDA."""
SHARED_MEMORY = Path("/dev/shm")  # nosec B108 # where Triton puts its regions
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
"""What a server inherits; the rest of a user's environment (PYTHONSTARTUP, proxies, credentials) stays out."""


FORWARDED = "(?i)^x-(request-id|titrate-arm|titrate-user)$"
"""Headers that the model sees, for its events (RE2)."""
NO_EVENTS = Settings("", 0.0, "")


@dataclass(frozen=True)
class Ports:
    """TCP ports on the loopback address."""

    http: int
    grpc: int
    metrics: int


@dataclass(frozen=True)
class RunningTriton:
    """A ready server; `memory_mib` asks the kernel each time."""

    pid: int
    ports: Ports

    @property
    def http_url(self) -> str:
        """V2 REST, for example `http://127.0.0.1:8000`."""
        return f"http://{LOOPBACK}:{self.ports.http}"

    @property
    def grpc_url(self) -> str:
        """V2 gRPC, `host:port` as gRPC clients want it."""
        return f"{LOOPBACK}:{self.ports.grpc}"

    @property
    def metrics_url(self) -> str:
        """Prometheus text."""
        return f"http://{LOOPBACK}:{self.ports.metrics}/metrics"

    def memory_mib(self) -> float:
        """Proportional set size of the server and its stubs, MiB."""
        return memory_mib(self.pid)


def command(repository: Path, ports: Ports, backends: Path, shm_prefix: str, address: str = LOOPBACK) -> list[str]:
    """The server's command line; `repository` holds models and nothing else (`link_models`).

    Triton starts its stubs through a shell, without quotes: both paths must be plain words. Give them relative to the
    folder that the server is started in (`plain`), for that folder may be called anything.
    Models are loaded at start only: no endpoint can add one. Trace and log settings can write files, so they answer
    to nobody (the key is thrown away).
    """
    nobody = f"x-nobody={secrets.token_hex(16)}"
    return [
        str(server_binary()),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        "--disable-auto-complete-config",
        "--log-info=false",
        f"--http-address={address}",
        f"--http-port={ports.http}",
        "--http-thread-count=2",
        f"--http-header-forward-pattern={FORWARDED}",
        f"--http-restricted-api=trace,logging:{nobody}",
        f"--grpc-address={address}",
        f"--grpc-port={ports.grpc}",
        f"--grpc-header-forward-pattern={FORWARDED}",
        f"--grpc-restricted-protocol=trace,logging:{nobody}",
        f"--metrics-address={address}",
        f"--metrics-port={ports.metrics}",
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",
        f"--exit-timeout-secs={int(STOP_WITHIN) - 5}",
    ]


def event_settings(environ: Mapping[str, str]) -> Settings:
    """Where the events of a server go, from TITRATE_EVENTS_URL and its neighbours; raises UserError."""
    try:
        return Settings.of(environ)
    except ValueError as error:
        raise UserError(str(error)) from error


def environment(release: str, events: Settings = NO_EVENTS) -> dict[str, str]:
    """The server's whole environment; `release` is the digest that answers, metrics and events carry.

    The stub ignores PYTHONPATH and PYTHONHOME: its Python is the `python3` that it finds first on the PATH.
    """
    inherited = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}:{inherited.get('PATH', os.defpath)}",
        "LD_LIBRARY_PATH": library_path(),
        "OMP_NUM_THREADS": "1",
        "TITRATE_RELEASE": release,
        **events.environ(),
    }


def link_models(repository: Path, view: Path) -> list[str]:
    """Make `view` a copy, in links, of the models of a release; returns their names, raises UserError without any.

    The release's other folders are no models, and the byte code that Python writes beside its source must not land
    in the release: a file more would break its seal.
    """
    models = sorted(path.parent for path in repository.absolute().glob("*/config.pbtxt"))
    if not models:
        raise UserError(f"{str(repository)!r} holds no Triton model: no folder with a config.pbtxt")
    shutil.rmtree(view, ignore_errors=True)
    for model in models:
        shutil.copytree(model, view / model.name, copy_function=os.symlink)
    return [model.name for model in models]


def plain(path: Path, folder: Path) -> Path:
    """`path` as seen from `folder`."""
    return Path(os.path.relpath(path, folder))


def start(arguments: list[str], environ: dict[str, str], folder: Path, log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """Start a server in `folder`, in a process group of its own; it dies with the thread that calls this."""
    parent = os.getpid()
    return subprocess.Popen(  # nosec B603 # our own command line
        arguments,
        env=environ,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(parent=parent),  # noqa: PLW1509 - one prctl, no locks
    )


def is_ready(ports: Ports) -> bool:
    """Whether the server is up and every model is loaded and warm."""
    connection = http.client.HTTPConnection(LOOPBACK, ports.http, timeout=2)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def clean_up(group: int, shm_prefix: str) -> None:
    """Kill what is left of a server's process group, and remove its regions of shared memory."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    for region in SHARED_MEMORY.glob(f"{shm_prefix}*"):
        region.unlink(missing_ok=True)


def stubs(pid: int) -> list[int]:
    """The processes in which the server `pid` runs models.

    Triton 2.51 does not start a dead one again: its share of the requests fails while the server says it is ready.
    """
    try:
        return [child.pid for child in psutil.Process(pid).children() if is_alive(child.pid)]
    except psutil.NoSuchProcess:
        return []


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not); two microseconds, unlike psutil."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def memory_mib(pid: int) -> float:
    """Proportional set size of a process and its descendants, MiB."""
    root = psutil.Process(pid)
    total = 0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total / 2**20


@contextlib.contextmanager
def running(repository: Path, cache: Path, release: str = "", events: Settings = NO_EVENTS) -> Iterator[RunningTriton]:
    """A ready server over the models of `repository`, stopped when the block ends.

    Raises UserError when Triton cannot be started here, PermanentError with the end of its log when it stops by
    itself, TemporaryError when it is not ready in time.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="triton-", dir=cache) as scratch:
        folder = Path(scratch)
        link_models(repository, folder / "models")
        ports, prefix = free_ports(), f"titrate-{os.getpid()}-{secrets.token_hex(4)}-"
        arguments = command(Path("models"), ports, plain(prepare(cache), folder), prefix)
        log = folder / "triton.log"
        with log.open("wb") as file:
            process = start(arguments, environment(release, events), folder, file)
        try:
            _wait_ready(process, ports, log)
            yield RunningTriton(process.pid, ports)
        finally:
            _stop(process, prefix)


def free_ports() -> Ports:
    """Three ports that nobody listens on now."""
    with contextlib.ExitStack() as held:
        found = []
        for _ in range(3):
            listener = held.enter_context(socket.socket())
            listener.bind((LOOPBACK, 0))
            found.append(listener.getsockname()[1])
    return Ports(*found)


def last_lines(log: Path, count: int = LOG_LINES) -> str:
    """The end of a log, for an error message."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join([line for line in lines if line.strip("+-| ")][-count:])


def errors(log: Path) -> str:
    """What a server's log says went wrong, for an error message; the end of the log when it does not say."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    told = [line.replace("\\n", "\n") for line in lines if ERROR_LINE.match(line)]
    return "\n".join(told[-2:]) or last_lines(log)


def _wait_ready(process: "subprocess.Popen[bytes]", ports: Ports, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not is_ready(ports):
        if process.poll() is not None:
            raise PermanentError(f"Triton stopped with code {process.returncode}:\n{errors(log)}")
        if time.monotonic() > deadline:
            raise TemporaryError(f"Triton was not ready after {READY_WITHIN:.0f} s:\n{last_lines(log)}")
        time.sleep(0.02)


def _stop(process: "subprocess.Popen[bytes]", shm_prefix: str) -> None:
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_WITHIN)
    clean_up(process.pid, shm_prefix)
    process.wait()
