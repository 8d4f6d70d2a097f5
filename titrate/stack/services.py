"""What each process of the stack is: its command line, its environment, and how to ask whether it is ready."""

import contextlib
import http.client
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from core.files import sha256_bytes, write_atomic
from core.home import Home
from serving.gateway import envoy, envoy_admin
from serving.gateway.settings import Settings
from serving.triton import events, server
from serving.triton.server import LOOPBACK, SHARED_MEMORY, Ports
from serving.triton.wheel import prepare
from titrate.stack.child import Launch, Service
from titrate.stack.ports import HomePorts
from titrate.stack.releases import verified

DRAIN_SECONDS = 35
"""How long a connection of an older configuration may finish: longer than a request may take (30)."""
PULSE = 60.0
"""Seconds without a turn after which the rollouts' process counts as hanging; a promotion takes up to 30."""
MARK = "TITRATE_STACK"
"""Environment variable of every process of a stack: the home it belongs to."""


def mlflow_service(home: Home, ports: HomePorts) -> Service:
    """MLflow's tracking server over the home's registry.

    `mlflow server` would start this very process as a child of its own, which outlives a killed stack.
    """
    settings = {
        "_MLFLOW_SERVER_FILE_STORE": home.registry,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(home.root / "mlartifacts"),
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    line = [sys.executable, "-m", "uvicorn", "--host", LOOPBACK, "--port", str(ports.mlflow)]
    line += ["--log-level", "warning", "mlflow.server.fastapi_app:app"]
    launch = Launch(line, _environment(home, settings), home.stack)
    return Service(
        name="mlflow",
        address=f"http://{LOOPBACK}:{ports.mlflow}",
        launch=lambda: launch,
        is_ready=lambda pid: answers(ports.mlflow, "/health"),
    )


def feedback_service(home: Home, ports: HomePorts) -> Service:
    """The feedback service over the home's events."""
    line = [sys.executable, "-m", "serving.feedback", "--database", home.events, "--port", str(ports.feedback)]
    return Service(
        name="feedback",
        address=f"http://{LOOPBACK}:{ports.feedback}",
        launch=lambda: Launch(line, _environment(home, {}), home.stack),
        is_ready=lambda pid: answers(ports.feedback, "/readyz"),
    )


def gateway_service(home: Home, ports: HomePorts, settings: Callable[[], Settings]) -> Service:
    """The gateway; `settings` is asked at each start.

    It counts as ready while its process answers: that a model server is away is not its fault.
    """
    file = home.stack / "gateway.json"

    def launch() -> Launch:
        write_atomic(file, settings().model_dump_json(indent=1))
        line = [sys.executable, "-m", "serving.gateway", "--settings", str(file), "--port", str(ports.gateway)]
        return Launch(line, _environment(home, {}), home.stack)

    return Service(
        name="gateway",
        address=f"http://{LOOPBACK}:{ports.gateway}",
        launch=launch,
        is_ready=lambda pid: answers(ports.gateway, "/healthz"),
        stop_within=15.0,
    )


def envoy_service(home: Home, ports: HomePorts, files: Path) -> Service:
    """Envoy over the files that the supervisor writes to `files`."""
    workers = max(1, (os.cpu_count() or 1) // 2)
    return Service(
        name="envoy",
        address=f"http://{LOOPBACK}:{ports.edge}",
        launch=lambda: Launch(envoy.command(files, workers, DRAIN_SECONDS), _environment(home, {}), home.stack),
        is_ready=lambda pid: envoy_admin.is_ready(ports.admin),
    )


def events_to(ports: HomePorts) -> events.Settings:
    """Every prediction becomes an event of the feedback service; the edge says which arm gave it.

    What reaches a server past the edge, such as a rollout's checks, has no arm and is no evidence.
    """
    return events.Settings(f"http://{LOOPBACK}:{ports.feedback}/events", 1.0, "")


def triton_service(home: Home, workload: str, digest: str, ports: Ports, to: events.Settings) -> Service:
    """One model server for one release, verified before each start; its events go to `to`."""
    name = server_name(workload, digest)
    prefix = f"{shm_prefix(home)}{digest[:8]}-"
    view = Path("models") / f"{workload}-{digest[:12]}"
    stubs: set[int] = set()

    def launch() -> Launch:
        stubs.clear()
        release = verified(home, digest)
        server.link_models(release, home.stack / view)
        line = server.command(view, ports, server.plain(prepare(home.cache), home.stack), prefix)
        return Launch(line, server.environment(digest, to) | {MARK: str(home.root)}, home.stack)

    def clean_up(pid: int) -> None:
        server.clean_up(pid, prefix)
        shutil.rmtree(home.stack / view, ignore_errors=True)

    def is_ready(pid: int) -> bool:
        ready = server.is_ready(ports)
        if ready and not stubs:
            stubs.update(server.stubs(pid))
        return ready

    def is_whole(pid: int) -> bool:
        return bool(stubs) and all(server.is_alive(stub) for stub in stubs)

    return Service(
        name=name,
        address=f"http://{LOOPBACK}:{ports.http}",
        launch=launch,
        is_ready=is_ready,
        is_whole=is_whole,
        clean_up=clean_up,
        stop_within=server.STOP_WITHIN,
    )


def rollouts_service(home: Home) -> Service:
    """The process that reconciles the home's rollouts."""
    line = [sys.executable, "-m", "titrate.rollouts", str(home.root)]
    launch = Launch(line, _environment(home, {}), home.stack)
    return Service(
        name="rollouts",
        address=str(home.root / "rollouts"),
        launch=lambda: launch,
        is_ready=lambda pid: _beats(rollouts_beat(home), pid),
    )


def loop_service(home: Home, ports: HomePorts) -> Service:
    """The process that watches for drift and trains again."""
    line = [sys.executable, "-m", "titrate.loop", str(home.root), str(ports.loop)]
    launch = Launch(line, _environment(home, {}), home.stack)
    return Service(
        name="loop",
        address=f"http://{LOOPBACK}:{ports.loop}",
        launch=lambda: launch,
        is_ready=lambda pid: _beats(loop_beat(home), pid),
    )


def loop_beat(home: Home) -> Path:
    """As `rollouts_beat`."""
    return home.stack / "loop.beat"


def rollouts_beat(home: Home) -> Path:
    """The file that the process touches at every turn, with its process id."""
    return home.stack / "rollouts.beat"


def _beats(beat: Path, pid: int) -> bool:
    try:
        return beat.read_text() == str(pid) and time.time() - beat.stat().st_mtime < PULSE
    except FileNotFoundError:
        return False


def server_name(workload: str, digest: str) -> str:
    """How the service of a release is called."""
    return f"triton-{workload}-{digest[:8]}"


def remove_leftovers(home: Home) -> None:
    """Kill what a killed supervisor left behind (processes that carry the home's mark), and its shared memory."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(home.root):
                process.kill()
                process.wait(5)
    for region in SHARED_MEMORY.glob(f"{shm_prefix(home)}*"):
        region.unlink(missing_ok=True)


def shm_prefix(home: Home) -> str:
    """How the names of this home's regions of shared memory begin."""
    return f"titrate-{sha256_bytes(str(home.root).encode())[:12]}-"


def _environment(home: Home, settings: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **settings, MARK: str(home.root)}


def answers(port: int, path: str) -> bool:
    """Whether a service of the loopback address answers 200."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
