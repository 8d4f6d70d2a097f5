"""Supervision of one process, with real processes and a clock in the test's hands."""

import os
import signal
import sys

import psutil
import pytest

from core.errors import PermanentError
from titrate.stack import child as module
from titrate.stack.child import Child, Launch, Service


class Subject:
    """A child that says what it is told to say."""

    def __init__(self, logs, script="import time; print('hello', flush=True); time.sleep(60)", **service):
        self.answers = True
        self.cleaned = []
        self.child = Child(
            Service(
                name="subject",
                address="nowhere",
                launch=lambda: Launch([sys.executable, "-c", script], dict(os.environ), logs),
                is_ready=lambda pid: self.answers,
                clean_up=self.cleaned.append,
                stop_within=5.0,
                **service,
            ),
            logs,
        )


@pytest.fixture
def subject(tmp_path):
    made = []

    def make(**options):
        made.append(Subject(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.child._kill()


def ended(child):
    """Wait until the process ended by itself; it stays to be reaped."""
    os.waitid(os.P_PID, child.process.pid, os.WEXITED | os.WNOWAIT)


def test_it_is_started_then_ready(subject):
    one = subject()
    one.child.tick(0.0)
    assert one.child.state == "starting"
    one.child.tick(0.01)
    assert one.child.state == "starting", "it is not asked at once"
    one.child.tick(0.1)
    assert one.child.state == "ready"
    assert one.child.status().pid == one.child.process.pid


def test_a_crash_is_followed_by_a_start_after_a_pause(subject):
    one = subject()
    one.child.tick(0.0)
    one.child.tick(1.0)
    one.child.process.kill()
    ended(one.child)
    one.child.tick(2.0)
    assert (one.child.state, one.child.detail, one.child.restarts) == ("waiting", "ended with code -9", 1)
    one.child.tick(2.05)
    assert one.child.state == "waiting"
    one.child.tick(2.11)
    assert one.child.state == "starting"


def test_pauses_grow_to_a_limit_and_are_forgotten_by_a_steady_life(subject):
    one = subject(script="raise SystemExit(3)")
    now, pauses = 0.0, []
    one.answers = False
    for _ in range(10):
        while one.child.process is None:
            one.child.tick(now := now + 0.05)
        ended(one.child)
        one.child.tick(now)
        pauses.append(one.child._next - now)
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert pauses[-1] == pytest.approx(10.0)
    assert one.child.failures == 10
    assert one.child.restarts == 0, "it never ran"
    steady = subject()
    steady.child.failures = 5
    steady.child.tick(0.0)
    steady.child.tick(1.0)
    assert steady.child.failures == 5
    steady.child.tick(12.0)
    assert steady.child.failures == 0


def test_what_cannot_be_launched_says_why(subject, tmp_path):
    def refuse():
        raise PermanentError("release 1234: the file 'x' was changed")

    one = Child(Service(name="x", address="", launch=refuse, is_ready=lambda pid: True), tmp_path)
    one.tick(0.0)
    assert (one.state, one.detail, one.failures) == ("waiting", "release 1234: the file 'x' was changed", 1)


def test_a_program_that_is_not_there_is_a_failure_like_any_other(tmp_path):
    launch = Launch([str(tmp_path / "nothing")], {}, tmp_path)
    one = Child(Service(name="x", address="", launch=lambda: launch, is_ready=lambda pid: True), tmp_path)
    one.tick(0.0)
    assert (one.state, one.failures) == ("waiting", 1)
    assert "No such file" in one.detail


def test_a_process_that_stopped_answering_is_killed(subject):
    one = subject()
    one.child.tick(0.0)
    one.child.tick(1.0)
    one.answers = False
    one.child.tick(10.0)
    assert one.child.state == "ready", "a slow answer is no reason"
    one.child.tick(17.0)
    assert (one.child.state, one.child.detail) == ("waiting", "did not answer")
    assert one.cleaned


def test_a_process_that_lost_a_part_is_started_again(subject):
    whole = [True]
    one = subject(is_whole=lambda pid: whole[0])
    one.child.tick(0.0)
    one.child.tick(1.0)
    whole[0] = False
    one.child.tick(1.1)
    assert (one.child.state, one.child.detail) == ("waiting", "one of its processes died")


def test_stop_asks_first(subject):
    one = subject()
    one.child.tick(0.0)
    pid = one.child.process.pid
    one.child.stop(1.0)
    assert one.child.state == "stopping"
    one.child.tick(1.0)
    ended(one.child)
    assert one.child.stopped(1.1)
    assert not psutil.pid_exists(pid)
    one.child.tick(9.0)
    assert one.child.process is None, "what was stopped stays stopped"


def test_stop_kills_what_does_not_listen(subject):
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    one = subject(script=script)
    one.child.tick(0.0)
    while "deaf" not in one.child.log.read_text():
        assert psutil.Process(one.child.process.pid).status() != psutil.STATUS_ZOMBIE
    one.child.stop(1.0)
    assert not one.child.stopped(5.9)
    pid = one.child.process.pid
    assert one.child.stopped(6.1)
    assert not psutil.pid_exists(pid)
    assert one.cleaned == [pid]


def test_a_long_log_is_moved_away_while_the_process_writes_on(subject, monkeypatch):
    monkeypatch.setattr(module, "LOG_BYTES", 1000)
    script = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print('x' * 2000, flush=True)
signal.sigwait([signal.SIGUSR1])
print('after', flush=True)
"""
    one = subject(script=script)
    one.child.tick(0.0)
    while one.child.log.stat().st_size < 2000:
        assert psutil.pid_exists(one.child.process.pid)
    one.child.tick(1.0)
    assert one.child.log.stat().st_size == 0
    assert one.child.log.with_suffix(".log.1").stat().st_size == 2001
    one.child.process.send_signal(signal.SIGUSR1)
    ended(one.child)
    assert one.child.log.read_text() == "after\n"
