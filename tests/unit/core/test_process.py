import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]


def child(parent: str) -> int:
    """The exit code of a process that is told that `parent` started it."""
    code = f"import os; from core.process import die_with_parent; die_with_parent(parent={parent}); print('lives')"
    return subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode


@pytest.mark.parametrize(("parent", "ended"), [("os.getppid()", 0), ("os.getppid() + 1", -signal.SIGKILL)])
def test_a_process_whose_parent_is_gone_before_it_asks_ends_too(parent: str, ended: int) -> None:
    assert child(parent) == ended


def test_a_process_ends_with_the_one_that_started_it() -> None:
    inner = "import time; from core.process import die_with_parent; die_with_parent(); print('ready'); time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-u', '-c', {inner!r}])"
    process = subprocess.Popen([sys.executable, "-c", outer], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGKILL)
    assert process.stdout.read() == b""  # ends when the last writer, the inner process, has ended
    process.wait()
    process.stdout.close()


def test_a_process_ends_with_one_far_above_it() -> None:
    """As under KFP: command -> shell -> task. The shell alone would live on, and the task with it."""
    task = "import os, time; from core.process import end_with; end_with(int(os.environ['TOP'])); print('ready')"
    task += "; time.sleep(60)"
    top = "import os, subprocess, sys; os.environ['TOP'] = str(os.getpid()); subprocess.run(['sh', '-c', sys.argv[1]])"
    shell = f'{sys.executable} -u -c "{task}"; true'
    process = subprocess.Popen([sys.executable, "-c", top, shell], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGKILL)
    assert process.stdout.read() == b""
    process.wait()
    process.stdout.close()


def test_a_process_does_not_outlive_one_that_is_gone_already() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    code = f"from core.process import end_with; end_with({gone.pid}); print('lives')"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == -signal.SIGKILL
