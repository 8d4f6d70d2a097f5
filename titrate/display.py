"""What `titrate run` shows while a pipeline runs: a line for each step, and a bar for the one that takes long."""

import contextlib
import json
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

REFRESH = 0.5
"""Seconds between two looks at the progress file."""


class Display:
    """Prints to stderr; on a terminal the running step's line is redrawn, elsewhere a step prints a line at its end."""

    def __init__(self, run: str, progress: Path) -> None:
        self._progress = progress
        self._tty = sys.stderr.isatty()
        self._began: dict[str, float] = {}
        self._current = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)
        print(f"run {run}", file=sys.stderr)

    def __enter__(self) -> Self:
        self._progress.unlink(missing_ok=True)
        if self._tty:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def started(self, step: str) -> None:
        """A step began."""
        self._began[step] = time.monotonic()
        self._current = step

    def ended(self, step: str, outcome: str) -> float:
        """A step ended; returns its seconds."""
        seconds = time.monotonic() - self._began.get(step, time.monotonic())
        self._current = ""
        mark = "ok  " if outcome == "succeeded" else "FAIL"
        self._line(f"  {mark} {step:<12} {seconds:7.1f} s", "\n")
        return seconds

    def _refresh(self) -> None:
        while not self._stop.wait(REFRESH):
            step = self._current
            if step:
                seconds = time.monotonic() - self._began[step]
                self._line(f"  ...  {step:<12} {seconds:7.1f} s  {self._bar(step)}", "")

    def _bar(self, step: str) -> str:
        with contextlib.suppress(OSError, ValueError):
            facts = json.loads(self._progress.read_text())
            if facts["step"] == step and facts["total"]:
                full = int(24 * facts["done"] / facts["total"])
                return f"[{'#' * full}{'.' * (24 - full)}] {facts['left_s']:.0f} s left  {facts['note']}"
        return ""

    def _line(self, text: str, end: str) -> None:
        sys.stderr.write(f"\r{text}\x1b[K{end}" if self._tty else f"{text}\n")
        sys.stderr.flush()
