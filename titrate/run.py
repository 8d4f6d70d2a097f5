"""One run of a pipeline on this machine: its record, its lock, its live display, its error.

The KFP graph runs in a process of its own (pipelines/local.py), whose output is the run's log. This process draws what
happens, and owns `run.json`. The same command after an interruption finds its unfinished record and continues it: every
step is idempotent, and training goes on from its last checkpoint (components/train).
"""

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from components.train.job import RESULT, TrainResult
from core.config import Config, canonical_json
from core.errors import DataError, PermanentError, TemporaryError, TitrateError, UserError
from core.files import locked, sha256_bytes, write_atomic
from core.home import Home
from core.progress import FILE as PROGRESS_FILE
from titrate.cost import Cost, Meter
from titrate.display import Display

_STARTED = re.compile(r"Executing task .*?'([\w-]+)'")
_ENDED = re.compile(r"Task .*?'([\w-]+)'.* finished with status .*?(SUCCESS|FAILURE)")
_COLOUR = re.compile(r"\x1b\[\d+m")


class StepRecord(Config):
    """One task of the pipeline."""

    name: str
    seconds: float
    outcome: Literal["succeeded", "failed"]


class RunRecord(Config):
    """`runs/<id>/run.json`."""

    id: str
    workload: str
    source: str
    command: str
    """Digest of workload, source and configuration: the same command continues an unfinished run."""
    status: Literal["running", "succeeded", "failed"]
    started_at: datetime
    seconds: float = 0.0
    """Time of all its steps, interruptions left out."""
    steps: tuple[StepRecord, ...] = ()
    cost: Cost = Cost()
    release: str | None = None
    """Digest of the release it registered."""
    error: str | None = None
    report: str = ""
    """Path of report.html."""


def run(home: Home, workload: str, source: Path, config: Config, nproc: int | None) -> RunRecord:
    """Run (or continue) the pipeline of `workload` on `source`; returns the record of the run that succeeded.

    Raises the error of the step that failed, as the step raised it; UserError when the same run is running already.
    """
    source = source.absolute()
    if not source.exists():
        raise UserError(f"the data {str(source)!r} is not there")
    key = {"workload": workload, "source": str(source), "config": config.content_digest()}
    record = _open_record(home, workload, source, sha256_bytes(canonical_json(key).encode()))
    folder = home.runs / record.id
    with locked(folder / "lock", f"run {record.id} is going on in another process"):
        _save(home, record)
        write_atomic(folder / "config.json", config.model_dump_json(indent=2))
        write_atomic(folder / "arguments.json", json.dumps(_arguments(home, record, config, nproc)))
        return _execute(home, record)


def runs(home: Home) -> list[RunRecord]:
    """All runs of a home, newest first."""
    found = [RunRecord.from_file(path) for path in home.runs.glob("*/run.json")]
    return sorted(found, key=lambda record: record.started_at, reverse=True)


def _open_record(home: Home, workload: str, source: Path, command: str) -> RunRecord:
    for record in runs(home):
        if record.command == command and record.status == "running":
            return record
    now = datetime.now(UTC)
    name = f"{workload}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    return RunRecord(id=name, workload=workload, source=str(source), command=command, status="running", started_at=now)


def _save(home: Home, record: RunRecord) -> None:
    write_atomic(home.runs / record.id / "run.json", record.model_dump_json(indent=2))


def _arguments(home: Home, record: RunRecord, config: Config, nproc: int | None) -> dict[str, object]:
    """The pipeline's parameters on the laptop (pipelines/<workload>.py describes them)."""
    return {
        "source": record.source,
        "store": f"file://{home.objects}",
        "config": config.model_dump_json(),
        "run": record.id,
        "tracking": home.registry,
        "keys": str(home.keys),
        "work": str(home.work),
        "cache": str(home.cache),
        "nproc": nproc or 0,
        "started_at": record.started_at.isoformat(),
    }


def _execute(home: Home, record: RunRecord) -> RunRecord:
    folder = home.runs / record.id
    began, meter = time.monotonic(), Meter()
    steps: list[StepRecord] = []
    error_file = folder / "error.json"
    error_file.unlink(missing_ok=True)
    with Display(record.id, folder / "progress.json") as display:
        process = _start(folder, record.workload, error_file)
        for line in _lines(process, folder / "pipeline.log"):
            if started := _STARTED.search(line):
                display.started(started[1])
            elif ended := _ENDED.search(line):
                outcome: Literal["succeeded", "failed"] = "succeeded" if ended[2] == "SUCCESS" else "failed"
                steps.append(StepRecord(name=ended[1], seconds=display.ended(ended[1], outcome), outcome=outcome))
        code = process.wait()
    cost = record.cost.plus(meter.read().plus(_of_training(folder)))
    changes = {"steps": tuple(steps), "seconds": record.seconds + time.monotonic() - began, "cost": cost}
    if code == 0:
        return _finish(home, record.model_copy(update={**changes, "status": "succeeded"}))
    error = _error(error_file, folder / "pipeline.log", code)
    failed = record.model_copy(update={**changes, "status": "failed", "error": str(error)})
    _finish(home, failed)
    raise error


def _of_training(folder: Path) -> Cost:
    """What the training's own record says of GPUs."""
    from titrate.report import artefact

    file = artefact(folder, "train", "trained") / RESULT
    if not file.exists():
        return Cost()
    trained = TrainResult.from_file(file)
    return Cost(gpu_seconds=trained.seconds * trained.processes if trained.device.startswith("cuda") else 0.0)


def _start(folder: Path, workload: str, error_file: Path) -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "TITRATE_PARENT": str(os.getpid()),
        "TITRATE_ERROR_FILE": str(error_file),
        PROGRESS_FILE: str(folder / "progress.json"),
    }
    command = [sys.executable, "-m", "pipelines.local", workload, str(folder / "arguments.json"), str(folder)]
    return subprocess.Popen(  # nosec B603 # our own module
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )


def _lines(process: "subprocess.Popen[str]", log: Path) -> Iterator[str]:
    with log.open("a") as file:
        for line in process.stdout or ():
            file.write(_COLOUR.sub("", line))
            yield line


def _finish(home: Home, record: RunRecord) -> RunRecord:
    from titrate.report import artefact, report

    published = artefact(home.runs / record.id, "publish", "release") / "published.json"
    if record.status == "succeeded":
        record = record.model_copy(update={"release": json.loads(published.read_text())["digest"]})
    record = record.model_copy(update={"report": str(home.runs / record.id / "report.html")})
    _save(home, record)
    write_atomic(Path(record.report), report(home.runs / record.id, record.model_dump(mode="json")))
    return record


def add_rollouts(home: Home, record: RunRecord, timelines: Sequence[Path]) -> None:
    """Show these rollouts in the report of a run."""
    from titrate.report import report

    folder = home.runs / record.id
    for timeline in timelines:
        write_atomic(folder / "rollouts" / f"{timeline.parent.name}.html", timeline.read_bytes())
    write_atomic(Path(record.report), report(folder, record.model_dump(mode="json")))


def _error(error_file: Path, log: Path, code: int) -> TitrateError:
    if not error_file.exists():
        end = "\n".join(log.read_text().splitlines()[-15:])
        return PermanentError(f"the pipeline ended with code {code}; the whole log is {str(log)!r}\n{end}")
    facts = json.loads(error_file.read_text())
    message = f"{facts['step']}: {facts['message']}"
    if facts["rows"]:
        return DataError(message, [(name, reason) for name, reason in facts["rows"]])
    kinds: dict[str, type[TitrateError]] = {"UserError": UserError, "TemporaryError": TemporaryError}
    return kinds.get(facts["type"], PermanentError)(message)
