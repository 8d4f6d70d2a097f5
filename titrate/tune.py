"""`titrate tune`: a sweep on this machine, from what the user typed to the sweep's folder below the home."""

import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.train.job import Tracking
from core.config import Config
from core.errors import UserError, nearest
from core.home import Home
from core.objects import Store
from titrate.configuration import configuration
from titrate.sweep_display import SweepDisplay
from tuning.data import PARTS, prepare
from tuning.records import SWEEP, Sweep
from tuning.result import SweepResult
from tuning.sweep import read, same_sweep, sweep
from workloads.configuration import RunConfig
from workloads.contract import load
from workloads.space import Space

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Asked(Config):
    """What the user typed; none: not said."""

    workload: str
    data: str | None
    recipe: str | None
    config: str | None
    changes: tuple[str, ...]
    space: str | None
    trials: int | None
    seed: int | None
    cpus: float | None
    gpus: float | None
    pbt: bool
    latency: bool

    def search(self) -> dict[str, Any]:
        """What was said of how to search."""
        said = self.model_dump(include={"trials", "seed", "cpus", "gpus"}, exclude_none=True)
        return said | {name: True for name in ("pbt", "latency") if getattr(self, name)}

    def fixed(self) -> tuple[str, ...]:
        """The keys that --set gave a value."""
        return tuple(change.partition("=")[0] for change in self.changes)


def tune(home: Home, asked: Asked, budget: str | None, resume: str | None) -> SweepResult:
    """Run the sweep that was asked for, or go on with `resume`; returns what it found."""
    ends = time.time() + seconds(budget) if budget else 0.0
    folder = _folder(home, resume) if resume else _new_folder(home, asked.workload)
    settings = _resumed(asked, folder) if resume else _settings(home, asked, folder)
    with SweepDisplay(folder.name, settings, ends) as display:
        prepare(asked.workload, Path(asked.data or ""), Store(settings.store), Path(settings.work), folder)
        return sweep(settings, folder, ends, display.show)


def show(home: Home, name: str) -> SweepResult:
    """What is known of a sweep."""
    return read(_folder(home, name))


def seconds(text: str) -> float:
    """`90s`, `10m`, `1.5h` or plain seconds, in seconds; raises UserError for anything else and for nothing."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    value = float(found[1]) * _UNITS[found[2] or "s"] if found else 0.0
    if value <= 0:
        raise UserError(f"--budget {text!r}: write a time such as 90s, 10m or 1.5h")
    return value


def _settings(home: Home, asked: Asked, folder: Path) -> Sweep:
    """Of a new sweep; nothing is written before all of it is known to make sense."""
    if not asked.data:
        raise UserError("--data DIR is missing: the folder of images to learn from")
    if not Path(asked.data).exists():
        raise UserError(f"the data {asked.data!r} is not there")
    config = configuration(asked.workload, asked.recipe, asked.config, asked.changes)
    space = _space(asked.workload, config, asked.space, asked.fixed())
    space.check(config)
    return Sweep(
        workload=asked.workload,
        dataset=str(folder / PARTS),
        store=f"file://{home.objects}",
        work=str(home.work),
        config=config.model_dump_json(),
        space=space,
        origin=str(Path(asked.space).absolute()) if asked.space else "",
        fixed=asked.fixed(),
        tracking=Tracking(uri=home.registry, experiment=asked.workload, run=folder.name),
        **asked.search(),
    )


def _space(workload: str, config: RunConfig, file: str | None, fixed: tuple[str, ...]) -> Space:
    """The user's space or the workload's, without what --set has fixed."""
    space = Space.from_file(Path(file)) if file else load(workload).space.space(config)
    return space.without(fixed)


def _resumed(asked: Asked, folder: Path) -> Sweep:
    """The settings of a sweep that goes on, as far as they may change; raises UserError where they may not."""
    before = Sweep.from_file(folder / SWEEP)
    config, fixed = before.base(), before.fixed
    if asked.recipe or asked.config or asked.changes:
        config, fixed = configuration(asked.workload, asked.recipe, asked.config, asked.changes), asked.fixed()
    file = asked.space or before.origin
    space = before.space  # of a file that is no longer there
    if asked.space or not file or Path(file).exists():
        space = _space(asked.workload, config, file, fixed)
    changes = {"workload": asked.workload, "config": config.model_dump_json(), "space": space, **asked.search()}
    now = before.model_copy(update=changes)
    same_sweep(now, folder)
    return now


def _new_folder(home: Home, workload: str) -> Path:
    load(workload)
    return home.sweeps / f"{workload}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _folder(home: Home, name: str) -> Path:
    """Where a sweep is; raises UserError with the nearest name when it is not there."""
    known = [path.parent.name for path in home.sweeps.glob(f"*/{SWEEP}")]
    if name not in known:
        raise UserError(f"there is no sweep {name!r}; {nearest(name, known)}")
    return home.sweeps / name
