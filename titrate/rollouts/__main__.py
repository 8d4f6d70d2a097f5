"""`python -m titrate.rollouts HOME`: the process that reconciles the rollouts of a home; the stack supervises it."""

import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path
from threading import Event

from core.files import locked
from core.home import Home
from core.logs import log_as_json
from titrate.rollouts.loop import Loop
from titrate.stack.services import rollouts_beat

TURN = 0.1
"""Seconds between two looks at what is due."""


def main(root: Path) -> None:
    """Reconcile until SIGTERM."""
    log_as_json()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every request
    home = Home(root)
    stopping = Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with locked(home.stack / "rollouts.lock", "the rollouts of this home are being reconciled already"):
        beat = rollouts_beat(home)
        beat.write_text(str(os.getpid()))
        loop = Loop(home)
        while not stopping.is_set():
            loop.turn(time.monotonic())
            with contextlib.suppress(OSError):  # a full disk, for example
                os.utime(beat)
            stopping.wait(TURN)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
