import os
import subprocess
import sys

import pytest

from core.errors import UserError
from serving.triton import server, wheel


def test_the_backend_folder_is_made_once(tmp_path):
    first = wheel.prepare(tmp_path)
    stub = first / "python" / "triton_python_backend_stub"
    made = stub.stat().st_mtime_ns
    assert os.access(stub, os.X_OK)
    assert wheel.prepare(tmp_path) == first
    assert stub.stat().st_mtime_ns == made
    assert [path.name for path in first.parent.iterdir()] == [first.name], "no draft is left"


def test_without_libpython_the_error_names_the_package(monkeypatch):
    monkeypatch.setattr(wheel, "LIBRARY", "libpython-of-nobody.so")
    with pytest.raises(UserError, match=r"install the package 'libpython3\.11'"):
        wheel.libpython()


def test_without_the_wheel_the_error_says_so(monkeypatch):
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="'nvidia-pytriton' is not installed"):
        wheel.server_binary()


def test_the_server_gets_no_more_of_the_users_environment_than_it_needs(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environ = server.environment("abc")
    assert "AWS_SECRET_ACCESS_KEY" not in environ
    assert environ["TITRATE_RELEASE"] == "abc"
    assert environ["PATH"].split(":")[0] == os.path.dirname(sys.executable)  # noqa: PTH120 - as the server compares


def test_nobody_holds_the_key_to_trace_and_log_settings(tmp_path):
    lines = [server.command(tmp_path, server.Ports(1, 2, 3), tmp_path, "x-") for _ in range(2)]
    keys = [next(word for word in line if word.startswith("--http-restricted-api")) for line in lines]
    assert keys[0].startswith("--http-restricted-api=trace,logging:")
    assert keys[0] != keys[1]


def test_free_ports_differ():
    ports = server.free_ports()
    assert len({ports.http, ports.grpc, ports.metrics}) == 3


def test_the_end_of_a_log_leaves_out_rulers(tmp_path):
    log = tmp_path / "log"
    log.write_text("one\n+----+----+\n| | |\ntwo\n\nthree\n")
    assert server.last_lines(log, 2) == "two\nthree"
    assert server.last_lines(tmp_path / "missing") == ""


def test_a_zombie_is_not_alive():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, not yet reaped: a zombie
        assert not server.is_alive(process.pid)
    assert server.is_alive(os.getpid())
    assert not server.is_alive(process.pid)
    assert server.stubs(process.pid) == []


def test_cleaning_up_kills_the_group_and_removes_its_regions(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "SHARED_MEMORY", tmp_path)
    (tmp_path / "mine-1").touch()
    (tmp_path / "theirs-1").touch()
    line = [sys.executable, "-c", "import subprocess, sys; subprocess.run(['sleep', '60'])"]
    with subprocess.Popen(line, start_new_session=True) as process:
        server.clean_up(process.pid, "mine-")
        process.wait(10)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs-1"]
    server.clean_up(process.pid, "mine-")  # twice is harmless
