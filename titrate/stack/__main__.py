"""`python -m titrate.stack HOME`: the supervisor's process; `titrate stack up` starts it."""

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

from core.files import locked
from core.home import Home
from titrate.stack.ports import home_ports
from titrate.stack.supervisor import TICK, Supervisor, say


def main(root: Path) -> None:
    """Supervise until SIGTERM or SIGINT."""
    home = Home(root)
    with locked(home.stack / "supervisor.lock", "the stack of this home is supervised already"):
        wake, stopping = signals()
        supervisor = Supervisor(home, home_ports(home))
        try:
            while not stopping:
                try:
                    supervisor.tick(time.monotonic())
                except OSError as error:  # a full disk, for example: what serves goes on
                    say(f"trying again: {error}")
                select.select([wake], [], [], TICK)
                with contextlib.suppress(BlockingIOError):
                    os.read(wake, 512)
        finally:
            supervisor.stop()
            (home.stack / "state.json").unlink(missing_ok=True)


def signals() -> tuple[int, list[int]]:
    """A file that becomes readable at every signal, and a list that SIGTERM and SIGINT fill."""
    wake, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: stopping.append(got))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return wake, stopping


if __name__ == "__main__":
    main(Path(sys.argv[1]))
