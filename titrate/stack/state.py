"""What the stack is asked to serve (`serving.json`) and what it does (`state.json`); both below `<home>/stack`.

The first file is written by whoever promotes a release, the second by the supervisor alone. Everyone may read both.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from typing import Literal

import psutil
from pydantic import Field

from core.config import Config
from core.errors import TemporaryError, UserError
from core.files import locked, write_atomic
from core.home import Home

ENTRY = "titrate.stack"
"""The supervisor's module: `python -m titrate.stack HOME`."""
PATIENCE = 5.0
"""Seconds that a writer of `serving.json` waits for another one."""
State = Literal["starting", "ready", "waiting", "stopping"]


class Candidate(Config):
    """A release that asks to serve, and the dose it gets: written by its rollout."""

    release: str
    weight: int = Field(default=0, ge=0, le=100)
    """Share of real requests, percent."""
    shadow: int = Field(default=0, ge=0, le=100)
    """Share of stable's requests that is copied to it, percent."""
    sticky_header: str | None = None
    tester_header: str = "x-titrate-arm"


class Serving(Config):
    """What is to be served."""

    stable: dict[str, str] = Field(default={})
    """Workload -> digest of its stable release."""
    candidates: dict[str, Candidate] = Field(default={})
    """By workload; at most one at a time."""
    kept: dict[str, str] = Field(default={})
    """Workload -> digest of its former stable release, which stays ready for an instant way back."""


class ServiceStatus(Config):
    """One process of the stack."""

    name: str
    state: State
    """`waiting`: it failed, and is started again after a pause."""
    address: str
    detail: str = ""
    pid: int | None = None
    restarts: int = 0
    failures: int = 0
    """Starts in a row that did not become ready."""
    ends: int = 0
    """Times that it ended or could not start, since the supervisor began."""


class StackState(Config):
    """What the supervisor last did."""

    supervisor: int
    wanted: dict[str, str]
    """What it last read from `serving.json`."""
    serving: dict[str, str]
    """Workload -> digest that answers at the edge now."""
    services: tuple[ServiceStatus, ...]


def serving(home: Home) -> dict[str, str]:
    """Workload -> digest of the stable release."""
    return wanted(home).stable


def set_stable(home: Home, workload: str, digest: str) -> None:
    """Make `digest` the stable release of `workload`; a running stack notices by itself and swaps."""
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise UserError(f"{digest!r} is no digest of a release: 64 hexadecimal digits")
    change(home, lambda now: now.model_copy(update={"stable": {**now.stable, workload: digest}}))


def change(home: Home, update: Callable[[Serving], Serving]) -> None:
    """Replace what is to be served and wake the stack; writers take turns.

    Raises TemporaryError when one is stuck, or the disk takes nothing.
    """
    path = home.stack / "serving.json"
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with locked(home.stack / "serving.lock", "another command is changing what is served"):
                now = wanted(home)
                if (changed := update(now)) != now:
                    write_atomic(path, changed.model_dump_json(indent=2))
                break
        except UserError as error:
            if time.monotonic() > deadline:
                raise TemporaryError(str(error)) from error
            time.sleep(0.01)
        except OSError as error:
            raise TemporaryError(f"{path.name} cannot be written: {error}") from error
    if (pid := supervisor_pid(home)) and changed != now:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCHLD)  # it looks at its children at once, and at what is wanted of it


def wanted(home: Home) -> Serving:
    """The content of `serving.json`; nothing when there is none."""
    path = home.stack / "serving.json"
    return Serving.from_file(path) if path.exists() else Serving()


def read_state(home: Home) -> StackState | None:
    """What the supervisor wrote; None when none runs."""
    path = home.stack / "state.json"
    pid = supervisor_pid(home)
    if pid is None or not path.exists():
        return None
    state = StackState.from_file(path)
    return state if state.supervisor == pid else None


def supervisor_pid(home: Home) -> int | None:
    """The process that supervises the stack of this home, if one does."""
    path = home.stack / "supervisor.lock"
    text = path.read_text().strip() if path.exists() else ""
    if not text.isdigit():
        return None
    try:
        process = psutil.Process(int(text))
        mine = process.cmdline()[-2:] == [ENTRY, str(home.root)] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # it is gone, or somebody else's
        return None
    return process.pid if mine else None
