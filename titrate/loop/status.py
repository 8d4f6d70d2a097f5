"""What `titrate loop status` and `titrate drift show` tell: from the loop's files alone."""

from core.config import Config
from core.errors import UserError
from core.home import Home
from titrate.loop import retrain, watch
from titrate.loop.jobs import Job, job_of
from titrate.loop.retrain import Kept
from titrate.loop.settings import LoopSettings, settings
from titrate.loop.watch import Alarm, WatchState
from titrate.stack.state import wanted


class LoopStatus(Config):
    """Of one workload."""

    workload: str
    release: str
    watch: WatchState | None
    """None before the loop has looked for the first time."""
    retraining: Kept
    job: Job | None
    settings: LoopSettings


def status(home: Home, workload: str) -> LoopStatus:
    """What is known now; raises UserError where nothing serves."""
    if (release := wanted(home).stable.get(workload)) is None:
        raise UserError(f"no release of {workload!r} serves; `titrate run {workload} --data DIR` makes the first one")
    kept = retrain.load(home, workload)
    seen = watch.load(home, workload)
    return LoopStatus(
        workload=workload,
        release=release,
        watch=seen if seen and seen.release == release else None,
        retraining=kept,
        job=job_of(home, workload, kept.job) if kept.job else None,
        settings=settings(home, workload),
    )


def raised(home: Home, workload: str) -> list[Alarm]:
    """All alarms, newest first."""
    return watch.alarms(home, workload)[::-1]
