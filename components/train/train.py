"""Train a workload's network on a dataset: prepares the job, starts its processes, waits, reads the result.

The loop itself is loop.py, run by `python -m components.train`. What an interrupted training has done lies in a folder
named by its configuration and its dataset, so that the same call goes on with it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from components.train.job import RESULT, Job, Tracking, TrainResult, Watch
from core.config import canonical_json
from core.dataset import Dataset
from core.errors import PermanentError, TemporaryError, TitrateError
from core.files import locked, sha256_bytes, write_atomic
from core.lineage import code_version, environment_digest
from core.objects import Store
from core.process import die_with_parent
from core.step import reported
from workloads.configuration import RunConfig

LEAST_SHARE = 8
"""Images of a step that are worth a process of their own: with fewer, averaging gradients takes over."""
STOP_SECONDS = 40.0
RESTARTS = 2
"""Of a training that ended without a reason."""
ROOT = Path(__file__).parents[2]


def train(
    dataset: Path,
    config: RunConfig,
    store: Store,
    work: Path,
    out: Path,
    tracking: Tracking | None = None,
    nproc: int | None = None,
    watch: Watch | None = None,
    start: Callable[[Path, int], None] | None = None,
) -> TrainResult:
    """Train in `nproc` processes (default: one a GPU, or one a core as far as the batch feeds them) into `out`.

    `work` keeps checkpoints, decoded images and what a repeated call goes on from. `start` runs the job of a file in so
    many processes, by default here (`launch`). Raises UserError when the loss is
    lost or weights are missing, TemporaryError when the training was interrupted.
    """
    folder = working_folder(work, dataset, config)
    with locked(folder / "lock", "this very training is already running"):
        job = Job(
            config=config.model_dump_json(),
            workload=config.workload,
            dataset=str(dataset.absolute()),
            store=store.uri,
            work=str(folder.absolute()),
            cache=str((work / "images").absolute()),
            out=str(out.absolute()),
            code=code_version(),
            environment=environment_digest(),
            tracking=tracking,
            watch=watch,
        )
        write_atomic(folder / "job.json", job.model_dump_json(indent=2))
        rows = sum(sample.split == "train" for sample in Dataset.read(dataset).samples)
        (start or launch)(folder / "job.json", processes(nproc, config.train.batch_of(rows)))
    return TrainResult.from_file(out / RESULT)


def working_folder(work: Path, dataset: Path, config: RunConfig) -> Path:
    """What an interrupted training goes on from lies here."""
    return work / "train" / key(dataset, config)


def key(dataset: Path, config: RunConfig) -> str:
    """Names a training: a digest of what its weights follow from (how it is exported is not part of it)."""
    facts = {"dataset": Dataset.read(dataset).info.digest, "config": config.model_dump(mode="json", exclude={"export"})}
    return sha256_bytes(canonical_json(facts).encode())[:16]


def processes(wanted: int | None, batch: int) -> int:
    """How many processes share a batch: at least one, each with enough of it to be worth its while."""
    return min(wanted or _devices(), max(1, batch // LEAST_SHARE))


def _devices() -> int:
    if Path("/dev/nvidiactl").exists():
        import torch

        if torch.cuda.is_available():
            return torch.cuda.device_count()
    return len(os.sched_getaffinity(0))


def launch(job: Path, nproc: int) -> None:
    """Run `components.train` on a job file in `nproc` processes on this machine until they end well.

    They have a process group of their own, end when this process ends, and get SIGTERM when it does. When they end
    without a reason, as when one is killed, all start again from the last checkpoint, RESTARTS times. Raises the error
    that they report.
    """
    report = job.with_name("error.json")
    report.unlink(missing_ok=True)
    for left in reversed(range(RESTARTS + 1)):
        code = _attempt(job, nproc, report)
        if code == 0:
            return
        if report.exists() or not left:
            raise _reported(report, code)
        print(
            f"training ended with code {code} and no reason; it starts again from its last checkpoint", file=sys.stderr
        )


def _attempt(job: Path, nproc: int, report: Path) -> int:
    """The exit code of one attempt."""
    process = subprocess.Popen(  # nosec B603 # the command line is ours
        [sys.executable, *_torchrun(nproc), "-m", "components.train", str(job)],
        env=_environment(nproc, report),
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls nothing but prctl
    )
    with _stopped_at_the_end(process):
        return process.wait()


def _torchrun(nproc: int) -> Sequence[str]:
    if nproc == 1:
        return ()
    return ("-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(nproc))


def _environment(nproc: int, report: Path) -> dict[str, str]:
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, len(os.sched_getaffinity(0)) // nproc))
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "passive",  # threads that spin at a barrier take the cores they wait for
        "GLOO_SOCKET_IFNAME": "lo",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # what cuBLAS needs to give the same bits twice
        "PYTHONPATH": os.pathsep.join(paths),
        "TITRATE_ERROR_FILE": str(report),
        "TITRATE_PARENT": str(os.getpid()),
    }


@contextlib.contextmanager
def _stopped_at_the_end(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Whatever ends the block, SIGTERM to this process included, the group of `process` ends with it: asked first."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupted) if main else None
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if main:
            signal.signal(signal.SIGTERM, before)


def _interrupted(signum: int, frame: FrameType | None) -> None:
    raise TemporaryError("training was interrupted; the same command goes on from its last checkpoint")


def _reported(report: Path, code: int) -> TitrateError:
    """The error that a process wrote, or one that says that it wrote none."""
    none = PermanentError(f"training ended with code {code} and no reason; its output is above")
    return reported(report) or none
