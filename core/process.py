"""Children that do not outlive their parent: a killed command leaves no orphans on the machine."""

import ctypes
import os
import select
import signal
import threading

PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(sig: int = signal.SIGKILL, parent: int | None = None) -> None:
    """Ask Linux to send `sig` to this process when the thread that started it ends. Use as `preexec_fn` or first line.

    A parent that died before this call is noticed by the changed parent id: surely where `parent`, its id, is given,
    else when an orphan's new parent is process 1.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(sig))
    adopted = os.getppid() == 1 and os.getpid() != 1 and bool(os.environ.get("TITRATE_PARENT"))
    if adopted if parent is None else os.getppid() != parent:
        os.kill(os.getpid(), sig)


def end_with(other: int) -> None:
    """End this process as soon as process `other` ends, however far above it is: KFP starts a task through a shell.

    A daemon thread waits for it on a pidfd, which cannot be fooled by a process id that is used again.
    """
    try:
        ended = os.pidfd_open(other)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
        return

    def wait() -> None:
        select.select([ended], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True, name=f"end-with-{other}").start()
