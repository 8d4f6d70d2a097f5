"""A sweep as a step of a pipeline: plain values in, the best configuration and the page out (component.py)."""

import shutil
import time
from pathlib import Path

from components.train.job import Tracking
from core.files import new_folder
from tuning.cluster import Spread, tune_on_cluster
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
    cluster: str = "",
) -> SweepResult:
    """Search around `config` on the dataset in `parts`; writes the best configuration to `best`, the report to `page`.

    `budget`: seconds, 0 without a limit. `work` keeps what a repeated call goes on from. `cluster`: the RayJob that
    does it (a Spread, JSON), empty: this process.
    """
    modules = load(workload)
    folder = work / "sweeps" / run
    base = modules.configuration(config)
    settings = Sweep(
        workload=workload,
        dataset=str(_shared(parts, folder) if cluster else parts),
        store=store,
        work=str(work),
        config=base.model_dump_json(),
        space=modules.space.space(base),
        trials=trials,
        tracking=Tracking(uri=tracking, experiment=workload, run=run),
    )
    if cluster:
        found = tune_on_cluster(Spread.from_json(cluster, "cluster"), settings, folder, budget, run)
    else:
        found = sweep(settings, folder, time.time() + budget if budget else 0.0)
    for source, target in ((folder / BEST, best), (folder / PAGE, page)):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return found


def _shared(parts: Path, folder: Path) -> Path:
    """The dataset where the RayJob's pods see it; the same path when the step is repeated."""
    target = folder / "dataset"
    if not target.exists():
        with new_folder(target) as draft:
            shutil.copytree(parts, draft, dirs_exist_ok=True)
    return target
