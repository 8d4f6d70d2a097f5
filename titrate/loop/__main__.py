"""`python -m titrate.loop HOME PORT`: the process that watches and retrains a home; the stack supervises it."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from threading import Event

from prometheus_client import start_http_server

from core.files import locked
from core.home import Home
from core.logs import log_as_json
from serving.gateway.access import LOOPBACK
from titrate.loop.service import Loop, Metrics
from titrate.stack.services import loop_beat

TURN = 0.5
"""Seconds between two looks at what is due."""


def main(root: Path, port: int) -> None:
    """Watch until SIGTERM; metrics at `port` of the loopback address."""
    log_as_json()
    home = Home(root)
    stopping = Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with locked(home.stack / "loop.lock", "this home is being watched already"):
        metrics = Metrics()
        start_http_server(port, LOOPBACK, metrics.registry)
        loop, beat = Loop(home, metrics), loop_beat(home)
        beat.write_text(str(os.getpid()))
        while not stopping.is_set():
            loop.turn(time.monotonic())
            with contextlib.suppress(OSError):  # a full disk, for example
                os.utime(beat)
            stopping.wait(TURN)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
