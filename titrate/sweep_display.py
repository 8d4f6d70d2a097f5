"""What `titrate tune` shows while it runs: a table of the trials and a bar on a terminal, a line for each elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuning.records import ENDED, Sweep, Trial

ROWS = 12
"""Of the table: those that run, then the best."""


class SweepDisplay:
    """Draws the trials of one sweep to stderr."""

    def __init__(self, name: str, sweep: Sweep, ends: float) -> None:
        self._sweep, self._ends, self._began = sweep, ends, time.time()
        self._trials: dict[int, Trial] = {}
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=2)
        print(f"sweep {name}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live.is_started:
            self._live.stop()

    def show(self, trial: Trial) -> None:
        """What is now known of a trial."""
        self._trials[trial.number] = trial
        if not self._console.is_terminal and trial.state != "running":
            print(f"  {' '.join(cell for cell in row(trial) if cell)}", file=sys.stderr, flush=True)

    def _draw(self) -> RenderableType:
        table = Table(*COLUMNS, box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        trials = sorted(self._trials.values(), key=lambda one: (one.state != "running", -(one.score or 0.0)))
        for trial in trials[:ROWS]:
            table.add_row(*row(trial))
        ended = sum(trial.state in ENDED for trial in trials)
        seconds = time.time() - self._began
        limit = f" of {self._ends - self._began:.0f} s" if self._ends else " s"
        bar = ProgressBar(total=self._sweep.trials, completed=ended, width=40)
        return Group(table, bar, Text(f"{ended} of {self._sweep.trials} trials, {seconds:.0f}{limit}"))


COLUMNS = ("trial", "state", "score", "ms", "done", "values")


def row(trial: Trial) -> tuple[str, ...]:
    """A trial as a row of a table."""
    values = ", ".join(
        f"{key.split('.')[-1]} {value:.3g}" if isinstance(value, float) else f"{key.split('.')[-1]} {value}"
        for key, value in trial.values.items()
    )
    return (
        str(trial.number),
        trial.state,
        "-" if trial.score is None else f"{trial.score:.4f}",
        "" if trial.latency_ms is None else f"{trial.latency_ms:.2f}",
        f"{trial.percent:.0f} %",
        trial.reason.splitlines()[0][:90] if trial.reason else values,
    )
