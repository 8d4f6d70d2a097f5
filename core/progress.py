"""How far a long step is: a line on the terminal, or a small file that the process which started the step reads.

A pipeline's step runs in a process of its own whose output goes to a log; `titrate run` hands it the file's name in
`TITRATE_PROGRESS_FILE` and draws the bar itself (titrate/run.py). Where the log is all there is, in a job on a cluster,
the name is `-`: a line now and then.
"""

import json
import os
import sys
import time
from pathlib import Path

from core.files import write_atomic

FILE = "TITRATE_PROGRESS_FILE"
LINES, LINES_EVERY = "-", 10.0
"""The name that asks for lines, and the seconds between two."""


class Progress:
    """Counts `done` of `total` units of one step; estimates the rest from the pace so far."""

    def __init__(self, step: str, total: int, every: float = 0.5) -> None:
        self.step = step
        self.total = total
        self._file = os.environ.get(FILE)
        self._every = LINES_EVERY if self._file == LINES else every
        self._began = self._shown = time.monotonic()
        self._first = 0

    def resume_at(self, done: int) -> None:
        """What an earlier process did does not count for the pace."""
        self._first = done

    def update(self, done: int, note: str = "") -> None:
        """Show `done` units and a short `note`; calls closer than `every` seconds cost nothing."""
        now = time.monotonic()
        if now - self._shown < self._every and done < self.total:
            return
        self._shown = now
        pace = (now - self._began) / max(1, done - self._first)
        left = pace * (self.total - done)
        if self._file == LINES:
            print(f"{self.step}: {done}/{self.total}, {left:.0f} s left  {note}", file=sys.stderr, flush=True)
        elif self._file:
            facts = {"step": self.step, "done": done, "total": self.total, "left_s": left, "note": note}
            write_atomic(Path(self._file), json.dumps(facts))
        elif sys.stderr.isatty():
            end = "\n" if done >= self.total else ""
            sys.stderr.write(f"\r{self.step}: {done}/{self.total}, {left:.0f} s left  {note}\x1b[K{end}")
            sys.stderr.flush()
