"""One training that the loop began: its record, the process that runs it, and its end.

`python -m titrate.loop.jobs HOME WORKLOAD ID` runs the same pipeline as `titrate run`, then starts the rollout of what
came out. The loop starts it, and again when it died: the run goes on where it was. `jobs/<id>.json` below the loop's
folder records what B06 asks for; the configuration lies beside it.
"""

import contextlib
import os
import subprocess  # nosec B404 # to start our own module
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from core.config import Config
from core.errors import TitrateError, UserError
from core.files import write_atomic
from core.home import Home
from core.lineage import Lineage
from core.logs import log_as_json
from core.process import die_with_parent
from serving.retraining.decide import Trigger
from serving.rollout.presets import RETRAINED
from serving.rollout.state import Phase
from titrate.loop.settings import folder, settings
from titrate.stack.releases import fetched

ATTEMPTS = 3
"""Starts of one job's process; one that was killed is started again."""
Status = Literal["training", "rolling out", "promoted", "rolled back", "failed"]


class Job(Config):
    """`jobs/<id>.json`."""

    id: str
    workload: str
    trigger: str
    why: str
    triggered_at: datetime
    started_at: datetime
    source: str
    samples: int
    """Rows of the source when it began, good or not."""
    base: str
    """Digest of the release that was stable then, whose hyperparameters it takes."""
    config: str
    """Path of the run configuration."""
    status: Status = "training"
    attempts: int = 0
    """Starts of its process."""
    run: str | None = None
    dataset: str | None = None
    """Digest of the data it was trained on."""
    release: str | None = None
    rollout: str | None = None
    error: str | None = None
    ended_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.status in ("training", "rolling out")


def all_jobs(home: Home, workload: str) -> list[Job]:
    """Oldest first."""
    return [Job.from_file(path) for path in sorted((folder(home, workload) / "jobs").glob("*/job.json"))]


def save(home: Home, job: Job) -> Job:
    """Keep the record; returns it."""
    write_atomic(_file(home, job.workload, job.id), job.model_dump_json(indent=2))
    return job


def begin(home: Home, job: Job) -> "subprocess.Popen[bytes]":
    """Start the job's process, for the first time or again; it dies with this one."""
    save(home, job.model_copy(update={"attempts": job.attempts + 1}))
    command = [sys.executable, "-m", "titrate.loop.jobs", str(home.root), job.workload, job.id]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "TITRATE_PARENT": str(os.getpid())}
    with _log(home, job).open("ab") as log:
        return subprocess.Popen(  # nosec B603 # our own module
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )


def died(home: Home, job: Job) -> Job:
    """The record of a job whose process ended without a word too often."""
    return _ended(home, job, "failed", f"its process died {job.attempts} times; see {_log(home, job)}")


def rolled(home: Home, job: Job) -> Job:
    """The job as it is now: a rollout that ended ends it."""
    from titrate.rollouts.control import find

    _, state = find(home, job.rollout or "").load()
    if not state.ended:
        return job
    return _ended(home, job, "promoted" if state.phase is Phase.PROMOTED else "rolled back", state.reason)


def job_of(home: Home, workload: str, name: str) -> Job:
    """The record of one job."""
    return Job.from_file(_file(home, workload, name))


def source_of(home: Home, release: str) -> Path:
    """The data that a release was trained on; raises UserError where the run is not of this home."""
    lineage = Lineage.from_file(fetched(home, release) / "lineage.json")
    from titrate.run import RunRecord

    file = home.runs / lineage.run / "run.json"
    if not file.exists():
        raise UserError(
            f"release {release[:12]} was made by run {lineage.run!r}, which this home does not know; name its data "
            "as 'source' in the loop's settings.json"
        )
    return Path(RunRecord.from_file(file).source)


def _file(home: Home, workload: str, job: str) -> Path:
    return folder(home, workload) / "jobs" / job / "job.json"


def _log(home: Home, job: Job) -> Path:
    return _file(home, job.workload, job.id).with_name("log")


def _ended(home: Home, job: Job, status: Status, why: str = "") -> Job:
    good = status == "promoted"
    changes = {"status": status, "ended_at": datetime.now(UTC), "error": None if good else why}
    return save(home, job.model_copy(update=changes))


def main(root: Path, workload: str, name: str) -> int:
    """Train, then start the rollout; the record says how it ended."""
    die_with_parent()
    log_as_json()
    home = Home(root)
    job = Job.from_file(_file(home, workload, name))
    try:
        _run(home, job)
    except (TitrateError, OSError) as error:
        _ended(home, Job.from_file(_file(home, workload, name)), "failed", str(error))
        return error.exit_code if isinstance(error, TitrateError) else 1
    return 0


def _run(home: Home, job: Job) -> None:
    if job.release is None:
        job = _trained(home, job)
    rollout = _rollout(home, job)
    save(home, job.model_copy(update={"rollout": rollout, "status": "rolling out"}))


def _trained(home: Home, job: Job) -> Job:
    from titrate.run import run
    from workloads.contract import load

    config = load(job.workload).configuration(Path(job.config).read_text())
    record = run(home, job.workload, Path(job.source), config, None)
    release = record.release or ""
    lineage = Lineage.from_file(fetched(home, release) / "lineage.json")
    return save(home, job.model_copy(update={"run": record.id, "release": release, "dataset": lineage.dataset}))


def _rollout(home: Home, job: Job) -> str:
    """The rollout of the job's release: begun now, or by an attempt that was killed right after it."""
    from titrate.rollouts.control import newest, start
    from titrate.rollouts.specs import made

    with contextlib.suppress(UserError):
        known = newest(home, job.workload)
        if known.load()[0].candidate == job.release:
            return known.id
    asked = settings(home, job.workload).rollout.model_copy(update={"candidate": job.release})
    if job.trigger in (Trigger.ACCURACY, Trigger.DRIFT) and asked.preset == "canary":
        asked = asked.model_copy(update={"preset": RETRAINED})
    return start(home, made(home, asked)).id


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
