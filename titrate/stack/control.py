"""`titrate stack up`, `status`, `logs`, `down`: from any terminal, to the one supervisor of a home."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil

from core.errors import PermanentError, TemporaryError, UserError, nearest
from core.files import locked
from core.home import Home
from serving.triton.server import last_lines
from titrate.stack.access import access, allow_insecure
from titrate.stack.ports import home_ports, record, require_free
from titrate.stack.releases import verified
from titrate.stack.services import answers, remove_leftovers
from titrate.stack.state import ENTRY, ServiceStatus, StackState, read_state, serving, supervisor_pid

UP_WITHIN = 120.0
"""Seconds until everything is ready."""
DOWN_WITHIN = 60.0
HOPELESS = 3
"""Failed starts in a row after which `up` gives up."""
POLL = 0.05


def up(home: Home, port: int | None = None, insecure: bool = False) -> list[ServiceStatus]:
    """Start what is not running, bring what runs up to what is to be served, and wait until all of it is ready.

    Raises PermanentError when a release does not verify or a service cannot start, UserError when a port is taken or
    `edge.json` is wrong, TemporaryError when something is not ready in time. A stack that this call started is stopped
    again on an error.
    """
    home.stack.mkdir(parents=True, exist_ok=True)
    with locked(home.stack / "up.lock", "another `titrate stack up` of this home is going on"):
        if insecure:
            allow_insecure(home)
        access(home)
        for digest in serving(home).values():
            verified(home, digest)
        pid = supervisor_pid(home)
        if pid is not None:
            _require_same_port(home, port)
            return _wait_ready(home, pid)
        ports = home_ports(home, port)
        remove_leftovers(home)
        require_free(ports)
        record(home, ports)
        pid = _spawn(home)
        try:
            return _wait_ready(home, pid)
        except BaseException:
            down(home)
            raise


def status(home: Home) -> list[ServiceStatus]:
    """The services of the stack; none when it is down."""
    state = read_state(home)
    return list(state.services) if state else []


def logs(home: Home, service: str | None, lines: int) -> str:
    """The last lines of one service (the beginning of its name is enough), or of each."""
    found = {path.stem: path for path in sorted((home.stack / "logs").glob("*.log"))}
    chosen = {name: path for name, path in found.items() if name.startswith(service or "")}
    if service and not chosen:
        raise UserError(f"no log of {service!r}; {nearest(service, found)}")
    return "\n\n".join(f"==> {name}\n{last_lines(path, lines)}" for name, path in chosen.items())


def down(home: Home) -> bool:
    """Answer what is in flight, then stop everything; False when nothing was running."""
    pid = supervisor_pid(home)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_WITHIN
    while supervisor_pid(home) == pid:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)  # its children die with it
        time.sleep(POLL)
    return True


def _require_same_port(home: Home, port: int | None) -> None:
    running = home_ports(home).edge
    if port not in (None, running):
        raise UserError(f"the stack runs on port {running}; `titrate stack down`, then `up --port {port}`")


def _spawn(home: Home) -> int:
    """Start the supervisor in a session of its own; it outlives this process."""
    log = home.stack / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", ENTRY, str(home.root)],
            {**os.environ, "PYTHONPATH": path},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(output)


def _wait_ready(home: Home, pid: int) -> list[ServiceStatus]:
    deadline = time.monotonic() + UP_WITHIN
    while True:
        state = read_state(home)
        if state and state.wanted != serving(home):
            state = None  # it has not noticed yet
        if state and _is_whole(home, state):
            return list(state.services)
        if not _is_running(pid):
            raise PermanentError(f"the supervisor stopped:\n{logs(home, 'supervisor', 15)}")
        hopeless = [s for s in state.services if s.failures >= HOPELESS and s.state != "ready"] if state else []
        if hopeless:
            raise PermanentError(_explain(home, hopeless))
        if time.monotonic() > deadline:
            slow = [s for s in state.services if s.state != "ready"] if state else []
            raise TemporaryError(f"not ready after {UP_WITHIN:.0f} s: {_explain(home, slow)}", delay=30)
        time.sleep(POLL)


def _is_whole(home: Home, state: StackState) -> bool:
    """Whether all that is to be served answers, at the gateway too."""
    ready = state.serving == serving(home) and all(found.state == "ready" for found in state.services)
    return ready and (not state.serving or answers(home_ports(home).gateway, "/readyz"))


def _explain(home: Home, services: list[ServiceStatus]) -> str:
    ends = {service.name: last_lines(home.stack / "logs" / f"{service.name}.log") for service in services}
    return "\n".join(f"{s.name} is {s.state}: {s.detail}\n{ends[s.name]}".rstrip() for s in services)


def _is_running(pid: int) -> bool:
    """Also sees the end of a supervisor that is this process's own child."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
