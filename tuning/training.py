"""The training of one trial as a process: `python -m tuning.training JOB.json`, and the handle on it.

It is `components.train.train`, the function of every run, in a process of its own: a trial can be stopped at any time
by ending it, and the processes that it started end with it. Ray's side is trial.py.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from components.train.job import MODEL, RESULT, EpochReport, Tracking, TrainResult, Watch
from components.train.train import ROOT, train
from core.config import Config
from core.objects import Store
from core.process import die_with_parent
from core.step import reporting_errors
from tuning.records import Sweep
from workloads.contract import load

JOB, EPOCHS, ERROR, OUT = "job.json", "epochs.jsonl", "error.json", "out"
STOP_SECONDS = 15.0
"""For a checkpoint and a word to MLflow; then the process is killed."""


class TrialJob(Config):
    """What the process is told."""

    sweep: Sweep
    config: str
    """The trial's run configuration, JSON."""
    nproc: int
    run: str
    """Name of its MLflow run."""
    parent: str
    """Id of the sweep's MLflow run."""


class TrialProcess:
    """A running training, its epochs as they come, and its end."""

    def __init__(self, folder: Path, job: TrialJob, threads: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ERROR).unlink(missing_ok=True)
        (folder / JOB).write_text(job.model_dump_json())
        (folder / EPOCHS).touch()
        self._lines = (folder / EPOCHS).open()
        self._process = subprocess.Popen(  # nosec B603 # our own module
            [sys.executable, "-m", "tuning.training", str(folder / JOB)],
            env=_environment(folder, threads),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log.txt").open("a"),
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls nothing but prctl
        )

    def epoch(self) -> EpochReport | None:
        """The next epoch that it has told of; none when there is none yet."""
        place = self._lines.tell()
        line = self._lines.readline()
        if not line.endswith("\n"):
            self._lines.seek(place)
            return None
        return EpochReport.model_validate_json(line)

    def code(self) -> int | None:
        """Its exit code; none while it runs."""
        return self._process.poll()

    def result(self) -> TrainResult:
        """Of a training that ended well."""
        return TrainResult.from_file(self.folder / OUT / RESULT)

    def reason(self) -> str:
        """Why it failed."""
        if (self.folder / ERROR).exists():
            return str(json.loads((self.folder / ERROR).read_text())["message"])
        return f"ended with code {self.code()} and no reason; its output is {str(self.folder / 'log.txt')!r}"

    def stop(self) -> None:
        """End it and all that it started: asked first, so that a checkpoint is left."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._lines.close()


def _environment(folder: Path, threads: int) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(paths),
        "TITRATE_ERROR_FILE": str(folder / ERROR),
        "TITRATE_PARENT": str(os.getpid()),
    }


def main(path: Path) -> None:
    """Train what the file says; leaves train.json and the curves, not the weights."""
    job = TrialJob.from_file(path)
    sweep = job.sweep
    folder = path.parent
    tracking = None
    if sweep.tracking:
        tracking = Tracking(
            uri=sweep.tracking.uri, experiment=sweep.tracking.experiment, run=job.run, parent=job.parent
        )
    config = load(sweep.workload).configuration(job.config)
    watch = Watch(file=str(folder / EPOCHS), checkpoints=sweep.pbt)
    store, work = Store(sweep.store), Path(sweep.work)
    train(Path(sweep.dataset), config, store, work, folder / OUT, tracking, job.nproc, watch)
    (folder / OUT / MODEL).unlink()


if __name__ == "__main__":
    with reporting_errors("tune"):
        main(Path(sys.argv[1]))
