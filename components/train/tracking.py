"""MLflow hears of a training from a process of its own, so that a slow server or its import never holds up a step.

The leading process writes JSON lines into a pipe that is large enough for all of them; `python -m
components.train.tracking` logs them. It ends with the training; when the training ended badly, so does the run.
"""

import fcntl
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from components.train.job import Job, Tracking
from core.config import canonical_json
from core.dataset import DatasetInfo
from core.errors import TemporaryError
from core.files import sha256_bytes, write_atomic
from core.process import die_with_parent

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_FILE = "mlflow_run"
"""In the working folder: the id of the MLflow run, which a resumed training goes on with."""
PIPE_BYTES = 2**20
WAIT_SECONDS = 60.0


class Tracker:
    """Sends what happens in a training to its MLflow run."""

    def __init__(self, tracking: Tracking, folder: Path, params: dict[str, Any], tags: dict[str, str]) -> None:
        self._run_file = folder / RUN_FILE
        self._process = subprocess.Popen(  # nosec B603 # the command line is ours
            [sys.executable, "-m", "components.train.tracking"],
            stdin=subprocess.PIPE,
            stdout=sys.stderr,
            text=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )
        if self._process.stdin:
            fcntl.fcntl(self._process.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._send({**tracking.model_dump(), "file": str(self._run_file), "params": params, "tags": tags})

    @classmethod
    def of(cls, job: Job) -> "Tracker | None":
        """The tracker of a job that is tracked: every value of its configuration, and where it comes from (T04)."""
        if job.tracking is None:
            return None
        config = json.loads(job.config)
        tags = {
            "dataset": DatasetInfo.from_file(Path(job.dataset) / "dataset.json").digest,
            "config": sha256_bytes(canonical_json(config).encode()),
            "code": job.code,
            "environment": job.environment,
            "seed": str(config["train"]["seed"]),
            "workload": job.workload,
        }
        if job.tracking.parent:
            tags["mlflow.parentRunId"] = job.tracking.parent
        return cls(job.tracking, job.folder, dict(flat(config)), tags)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Log values of one step."""
        self._send({"step": step, "time": int(time.time() * 1000), "values": values})

    def run_id(self) -> str:
        """The id of the run, once MLflow has made it; raises TemporaryError when it does not in time."""
        ends = time.monotonic() + WAIT_SECONDS
        while not self._run_file.exists():
            if time.monotonic() > ends or self._process.poll() is not None:
                raise TemporaryError("MLflow could not start the run (see above); run the command again")
            time.sleep(0.05)
        return self._run_file.read_text()

    def finish(self, status: str) -> str:
        """End the MLflow run with FINISHED, FAILED or KILLED and return its id.

        Raises TemporaryError when a finished training could not be logged: nobody would find it.
        """
        self._send({"status": status})
        try:
            self._process.communicate(timeout=WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        if self._process.wait() != 0 and status == "FINISHED":
            raise TemporaryError("the training is done, but MLflow could not log it (see above); run the command again")
        return self._run_file.read_text() if self._run_file.exists() else ""

    def _send(self, message: dict[str, Any]) -> None:
        pipe = self._process.stdin
        try:
            print(json.dumps(message), file=pipe, flush=True)
        except BrokenPipeError:
            return  # its end is reported by `finish`


def log(lines: TextIO) -> None:
    """Log the lines of a Tracker until one ends the run."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # not each table of a new database
    start = json.loads(lines.readline())
    client = MlflowClient(tracking_uri=start["uri"], registry_uri=start["uri"])
    run = _run(client, start)
    for line in lines:
        message = json.loads(line)
        if "status" in message:
            client.set_terminated(run, message["status"])
        else:
            rows = [Metric(name, value, message["time"], message["step"]) for name, value in message["values"].items()]
            client.log_batch(run, metrics=rows)


def _run(client: "MlflowClient", start: dict[str, Any]) -> str:
    """The id of the run: the one of an interrupted attempt, else a new one with its parameters and tags."""
    from mlflow.entities import Param, RunTag

    file = Path(start["file"])
    if file.exists():
        client.update_run(file.read_text(), status="RUNNING")
        return file.read_text()
    experiment = client.get_experiment_by_name(start["experiment"])
    number = experiment.experiment_id if experiment else client.create_experiment(start["experiment"])
    run = client.create_run(number, run_name=start["run"])
    params = [Param(name, str(value)) for name, value in start["params"].items()]
    tags = [RunTag(name, value) for name, value in start["tags"].items()]
    client.log_batch(run.info.run_id, params=params, tags=tags)
    write_atomic(file, run.info.run_id)
    return str(run.info.run_id)


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value of a configuration by its dotted key."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


if __name__ == "__main__":
    die_with_parent()
    log(sys.stdin)
    sys.stdout.flush()
    os._exit(0)  # the training waits: taking MLflow apart would cost it a second
