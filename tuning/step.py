"""A sweep as a step of a pipeline: plain values in, the best configuration and the page out (component.py)."""

import shutil
import time
from pathlib import Path

from components.train.job import Tracking
from tuning.records import Sweep
from tuning.result import SweepResult
from tuning.sweep import BEST, PAGE, sweep
from workloads.contract import load


def tune(
    workload: str,
    store: str,
    config: str,
    run: str,
    tracking: str,
    work: Path,
    trials: int,
    budget: float,
    parts: Path,
    best: Path,
    page: Path,
) -> SweepResult:
    """Search around `config` on the dataset in `parts`; writes the best configuration to `best`, the report to `page`.

    `budget`: seconds, 0 without a limit. `work` keeps what a repeated call goes on from.
    """
    modules = load(workload)
    base = modules.configuration(config)
    settings = Sweep(
        workload=workload,
        dataset=str(parts),
        store=store,
        work=str(work),
        config=base.model_dump_json(),
        space=modules.space.space(base),
        trials=trials,
        tracking=Tracking(uri=tracking, experiment=workload, run=run),
    )
    folder = work / "sweeps" / run
    found = sweep(settings, folder, time.time() + budget if budget else 0.0)
    for source, target in ((folder / BEST, best), (folder / PAGE, page)):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return found
