"""One supervised process: started, asked whether it is ready, started again when it fails, stopped.

`tick` does one step and never waits, so that the supervisor can look after many. Time comes in as an argument.
"""

import contextlib
import os
import signal
import subprocess  # nosec B404 # to start the engines
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import TitrateError
from core.process import die_with_parent
from titrate.stack.state import ServiceStatus, State

PROBE_STARTING = 0.05
PROBE_READY = 1.0
READY_WITHIN = 90.0
"""Seconds; MLflow imports for 6 to 30 of them."""
UNRESPONSIVE = 15.0
"""Seconds without an answer after which a process that was ready is killed."""
STEADY = 10.0
"""Seconds a process must live before its failures are forgotten."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
LOG_BYTES = 16 * 2**20
"""A longer log is moved to `<name>.log.1`, which it replaces."""

OWNER_ONLY = 0o600
"""Of logs: Envoy prints a configuration that it refuses, with its keys."""


@dataclass(frozen=True)
class Launch:
    """How to start a process."""

    command: list[str]
    environment: dict[str, str]
    folder: Path
    """Its working directory."""


@dataclass(frozen=True)
class Service:
    """What the supervisor must know of a process."""

    name: str
    address: str
    launch: Callable[[], Launch]
    """Called before each start; may raise TitrateError (a release that does not verify) or OSError."""
    is_ready: Callable[[int], bool]
    """Whether the process `pid` does its work."""
    is_whole: Callable[[int], bool] = lambda pid: True
    """Whether all parts of the process `pid` live; asked at each tick once it is ready."""
    clean_up: Callable[[int], None] = lambda pid: None
    """Removes what a dead process group leaves behind."""
    stop_within: float = 10.0
    """Seconds from SIGTERM to SIGKILL."""


@dataclass
class Child:
    """A service and its process."""

    service: Service
    logs: Path
    state: State = "waiting"
    detail: str = ""
    restarts: int = 0
    failures: int = 0
    ends: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    _next: float = 0.0
    _started: float = 0.0
    _answered: float = 0.0

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.logs / f"{self.service.name}.log"

    def status(self) -> ServiceStatus:
        """For people and for `state.json`."""
        return ServiceStatus(
            name=self.service.name,
            state=self.state,
            address=self.service.address,
            detail=self.detail,
            pid=self.process.pid if self.process else None,
            restarts=self.restarts,
            failures=self.failures,
            ends=self.ends,
        )

    def tick(self, now: float) -> None:
        """Start it, see that it ended, or ask whether it is ready: whatever is due."""
        if self.state == "stopping":
            return
        if self.process is None:
            if now >= self._next:
                self._start(now)
        elif (code := self.process.poll()) is not None:
            self._ended(f"ended with code {code}", now)
        elif self.state == "ready" and not self.service.is_whole(self.process.pid):
            self._ended("one of its processes died", now)
        elif now >= self._next:
            self._probe(now)

    def renew(self) -> None:
        """Ask it to end, and start it again: it reads its settings once."""
        if self.process:
            self.process.send_signal(signal.SIGTERM)

    def stop(self, now: float) -> None:
        """Ask it to end; `tick` and `stopped` do the rest."""
        self.state, self._next = "stopping", now + self.service.stop_within
        if self.process:
            self.process.send_signal(signal.SIGTERM)

    def stopped(self, now: float) -> bool:
        """After `stop`: whether it is gone; it is killed when its time is over."""
        if self.process and self.process.poll() is None and now < self._next:
            return False
        self._kill()
        return True

    def _start(self, now: float) -> None:
        try:
            self._shorten_log()
            self.process = self._spawn(self.service.launch())
        except (TitrateError, OSError) as error:
            self._failed(str(error), now)
            return
        self.state, self.detail = "starting", ""
        self._next, self._started, self._answered = now + PROBE_STARTING, now, now

    def _spawn(self, launch: Launch) -> "subprocess.Popen[bytes]":
        parent = os.getpid()
        with open(self.log, "ab", opener=lambda name, flags: os.open(name, flags, OWNER_ONLY)) as log:
            return subprocess.Popen(  # nosec B603 # our own command lines
                launch.command,
                env=launch.environment,
                cwd=launch.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent=parent),  # noqa: PLW1509 - the supervisor has one thread
            )

    def _probe(self, now: float) -> None:
        if self.process and self.service.is_ready(self.process.pid):
            self.state, self._answered = "ready", now
            if now - self._started > STEADY:
                self.failures = 0
        elif now - self._answered > (UNRESPONSIVE if self.state == "ready" else READY_WITHIN):
            self._ended("did not answer", now)
            return
        self._next = now + (PROBE_READY if self.state == "ready" else PROBE_STARTING)
        self._shorten_log()

    def _ended(self, why: str, now: float) -> None:
        self._kill()
        if self.state == "ready":
            self.restarts += 1
        self._failed(why, now)

    def _failed(self, why: str, now: float) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self.failures)
        self.failures += 1
        self.ends += 1
        self.state, self.detail, self._next = "waiting", why, now + pause

    def _kill(self) -> None:
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.service.clean_up(self.process.pid)
            self.process = None

    def _shorten_log(self) -> None:
        """Copy and truncate: the process goes on writing to the same file, at its new end."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.with_suffix(".log.1").write_bytes(self.log.read_bytes())
            os.truncate(self.log, 0)
