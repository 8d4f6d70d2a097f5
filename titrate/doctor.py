"""`titrate doctor`: what is installed, which engine can start, which port is taken, and what to do about it."""

import importlib.metadata
import os
import re
import shutil
import stat
import subprocess  # nosec B404 # to ask the engines for their version
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from core.config import Config
from core.errors import TitrateError
from core.home import Home
from core.signing import PRIVATE_KEY, PUBLIC_KEY
from core.verdict import Outcome
from serving.triton.server import SHARED_MEMORY, environment
from serving.triton.wheel import libpython, server_binary, version
from titrate.stack.ports import home_ports, require_free
from titrate.stack.state import supervisor_pid

LOCK = Path(__file__).parents[1] / "requirements.lock"
GIB = 2**30
LEAST_DISK = 5 * GIB
"""A run of the demo with its caches, checkpoints and releases needs 1 to 2 GiB."""
LEAST_MEMORY = 3 * GIB
"""Triton, Envoy and MLflow use 0.8 GiB, a training run beside them up to 2."""
LEAST_SHARED = 64 * 2**20
"""Requests pass through it: a few MiB for each of Triton's processes."""


class Check(Config):
    """One thing that was looked at."""

    name: str
    verdict: Outcome
    detail: str
    """What was found."""
    remedy: str = ""
    """What to do about it; empty when nothing is wrong."""


def checks(home: Home) -> list[Check]:
    """All checks, in the order in which they matter; a check that cannot be made says so and does not stop the rest."""
    made: tuple[Callable[[Home], Check], ...] = (
        _python, _packages, _triton, _envoy, _mlflow, _disk, _memory, _shared_memory, _home, _ports, _keys, _gpu
    )  # fmt: skip
    return [_safely(check, home) for check in made]


def _safely(check: Callable[[Home], Check], home: Home) -> Check:
    name = check.__name__.strip("_").replace("_", " ")
    try:
        return check(home)
    except TitrateError as error:
        reason, _, way_out = str(error).partition("; ")
        return Check(name=name, verdict=Outcome.FAIL, detail=reason, remedy=way_out)
    except (OSError, subprocess.SubprocessError, psutil.Error) as error:
        return Check(name=name, verdict=Outcome.ERROR, detail=f"could not be looked at: {error}")


def _judge(name: str, good: bool, detail: str, remedy: str) -> Check:
    return Check(
        name=name, verdict=Outcome.PASS if good else Outcome.FAIL, detail=detail, remedy="" if good else remedy
    )


def _python(_: Home) -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return _judge("python", sys.version_info[:2] == (3, 11), found, "use Python 3.11: `make setup PYTHON=python3.11`")


def _packages(_: Home) -> Check:
    """Installed versions against the lock."""
    if not LOCK.exists():
        return Check(name="packages", verdict=Outcome.INCONCLUSIVE, detail=f"{LOCK.name} is not beside the code")
    wanted = dict(re.findall(r"^([\w.-]+)(?:\[[^]]*])?==([^\s;]+)", LOCK.read_text(), flags=re.MULTILINE))
    installed = {_normal(found.metadata["Name"]): found.version for found in importlib.metadata.distributions()}
    differ = [name for name, pin in wanted.items() if installed.get(_normal(name)) != pin]
    detail = f"{len(wanted) - len(differ)} of {len(wanted)} as locked"
    if differ:
        detail += f"; different or missing: {', '.join(differ[:5])}{' ...' if len(differ) > 5 else ''}"
    return _judge("packages", not differ, detail, "`make setup` installs the locked versions")


def _triton(_: Home) -> Check:
    """Whether the wheel's server starts at all, and the library that its models need is there."""
    library = libpython()
    done = _run([str(server_binary()), "--help"], environment(""))
    detail = f"nvidia-pytriton {version()}, {library}"
    return _judge("triton", "Usage: tritonserver" in done, detail, f"the server does not start: {done[-200:]}")


def _envoy(_: Home) -> Check:
    from serving.gateway.envoy import binary

    found = re.search(r"/(\d+[.]\d+[.]\d+)/", _run([str(binary()), "--version"], None))
    return _judge("envoy", found is not None, found[1] if found else "does not start", "`make setup` installs it again")


def _mlflow(_: Home) -> Check:
    try:
        return Check(name="mlflow", verdict=Outcome.PASS, detail=importlib.metadata.version("mlflow"))
    except importlib.metadata.PackageNotFoundError:
        remedy = "`make setup` installs the locked environment"
        return Check(name="mlflow", verdict=Outcome.FAIL, detail="not installed", remedy=remedy)


def _disk(home: Home) -> Check:
    place = next(path for path in (home.root, *home.root.parents) if path.exists())
    free = shutil.disk_usage(place).free
    remedy = "`titrate gc` shows what can go, or choose a home on a larger disk with --home"
    return _judge("disk", free >= LEAST_DISK, f"{free / GIB:.1f} GiB free for the home", remedy)


def _memory(_: Home) -> Check:
    free = psutil.virtual_memory().available
    remedy = f"close something: the stack and a training run want {LEAST_MEMORY / GIB:.0f} GiB"
    return _judge("memory", free >= LEAST_MEMORY, f"{free / GIB:.1f} GiB available", remedy)


def _shared_memory(_: Home) -> Check:
    free = shutil.disk_usage(SHARED_MEMORY).free
    remedy = "enlarge /dev/shm (for Docker: --shm-size=256m)"
    return _judge("shared memory", free >= LEAST_SHARED, f"{free / 2**20:.0f} MiB free", remedy)


def _home(home: Home) -> Check:
    Home.find(str(home.root))
    return Check(name="home", verdict=Outcome.PASS, detail=f"{home.root} is writable")


def _ports(home: Home) -> Check:
    ports = home_ports(home)
    if (pid := supervisor_pid(home)) is not None:
        detail = f"{ports.edge} and more, used by this home's stack (process {pid})"
        return Check(name="ports", verdict=Outcome.PASS, detail=detail)
    require_free(ports)
    return Check(name="ports", verdict=Outcome.PASS, detail=f"{ports.edge} for clients, and its neighbours, are free")


def _keys(home: Home) -> Check:
    private, public = home.keys / PRIVATE_KEY, home.keys / PUBLIC_KEY
    if not private.exists():
        made = "the first run makes a pair" if not public.exists() else "only the public one: releases can be verified"
        return Check(name="keys", verdict=Outcome.PASS, detail=made)
    if not public.exists():
        return Check(
            name="keys", verdict=Outcome.FAIL, detail=f"{private.name} without {public.name}", remedy="restore it"
        )
    private_to_me = not private.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    detail = "signing pair is there" if private_to_me else f"others may read {private}"
    return _judge("keys", private_to_me, detail, f"chmod 600 {private}")


def _gpu(_: Home) -> Check:
    tool = shutil.which("nvidia-smi")
    found = _run([tool, "--query-gpu=name", "--format=csv,noheader"], None).strip() if tool else ""
    return Check(name="gpu", verdict=Outcome.PASS, detail=found or "none seen: training and serving use the CPU")


def _run(command: list[str], environ: dict[str, str] | None) -> str:
    """What a short command prints."""
    done = subprocess.run(  # nosec B603 # our own command lines
        command, env=environ or dict(os.environ), capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout + done.stderr


def _normal(name: str) -> str:
    """A distribution's name as PEP 503 compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()
