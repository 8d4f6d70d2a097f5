import os
import socket
import subprocess
import sys

import pytest

from core.errors import PermanentError, UserError
from core.files import write_atomic
from core.home import Home
from core.objects import Store
from core.release import seal
from core.signing import ensure_keys
from titrate.stack import control, ports
from titrate.stack.releases import verified
from titrate.stack.state import read_state, serving, set_stable, supervisor_pid

A, B = "a" * 64, "b" * 64


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


@pytest.fixture
def listener():
    """A port that this process listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one.getsockname()[1]


@pytest.fixture
def release(home):
    """Digest of a signed release in the home's store."""
    draft = home.root / "draft"
    write_atomic(draft / "pills" / "config.pbtxt", "name: 'pills'")
    private, _ = ensure_keys(home.keys)
    digest = seal(draft, private)
    Store(str(home.objects)).publish(draft, f"releases/{digest}")
    return digest


def test_nothing_is_served_until_something_is_promoted(home):
    assert serving(home) == {}
    assert not home.root.exists(), "asking creates nothing"


def test_what_is_promoted_is_served_beside_the_other_workloads(home):
    set_stable(home, "pills", A)
    set_stable(home, "reward", B)
    set_stable(home, "pills", B)
    assert serving(home) == {"pills": B, "reward": B}


def test_a_short_digest_is_refused(home):
    with pytest.raises(UserError, match="64 hexadecimal digits"):
        set_stable(home, "pills", "abc")


def test_a_home_keeps_its_ports(home):
    first = ports.home_ports(home)
    assert ports.home_ports(home) == first
    assert not home.root.exists(), "asking creates nothing"
    ports.record(home, ports.home_ports(home, 8080))
    assert ports.home_ports(home) == first.model_copy(update={"edge": 8080}), "a port that was asked for is kept"


def test_two_homes_get_different_ports(tmp_path):
    blocks = {ports.home_ports(Home(tmp_path / str(i))).base for i in range(8)}
    assert len(blocks) >= 7, "of 312 blocks"


def test_slots_of_servers_and_fixed_ports_do_not_overlap(home):
    found = ports.home_ports(home)
    taken = [found.edge, found.internal, found.admin, found.mlflow]
    taken += [port for slot in found.slots() for port in (slot.http, slot.grpc, slot.metrics)]
    assert len(set(taken)) == len(taken)
    assert max(taken) < found.base + ports.BLOCK


def test_a_taken_block_is_passed_over(home, monkeypatch):
    chosen = ports.home_ports(home).base
    monkeypatch.setattr(ports, "is_taken", lambda port: port == chosen + 5)
    assert ports.home_ports(home).base == ports.FIRST + (chosen - ports.FIRST + ports.BLOCK) % (312 * ports.BLOCK)


def test_a_taken_port_names_the_process_and_the_way_out(home, listener):
    with pytest.raises(UserError, match=rf"port {listener}.*process {os.getpid()} .*--port"):
        ports.require_free(ports.home_ports(home, listener))


def test_up_on_a_taken_port_starts_nothing(home, listener):
    with pytest.raises(UserError, match="is taken by process"):
        control.up(home, listener)
    assert supervisor_pid(home) is None
    assert ports.home_ports(home).edge != listener, "it is not asked for again next time"


def test_a_release_comes_from_the_store_and_is_checked(home, release):
    folder = verified(home, release)
    assert folder == home.releases / release
    assert (folder / "pills/config.pbtxt").exists()


def test_one_flipped_byte_is_refused_and_named(home, release):
    file = verified(home, release) / "pills" / "config.pbtxt"
    file.write_bytes(b"N" + file.read_bytes()[1:])
    set_stable(home, "pills", release)
    with pytest.raises(PermanentError, match=r"pills/config\.pbtxt.*refusing to serve"):
        control.up(home)
    assert supervisor_pid(home) is None


def test_a_release_that_is_nowhere_is_named(home):
    with pytest.raises(UserError, match=A):
        verified(home, A)


def test_a_stack_that_is_down_has_no_state(home):
    assert read_state(home) is None
    assert control.status(home) == []
    assert control.down(home) is False


def test_a_reused_process_id_is_not_taken_for_a_supervisor(home):
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as other:
        write_atomic(home.stack / "supervisor.lock", str(other.pid))
        assert supervisor_pid(home) is None
        other.stdin.close()


def test_logs_are_found_by_the_beginning_of_a_name(home):
    write_atomic(home.stack / "logs" / "triton-pills-1234.log", "one\ntwo\nthree\n")
    write_atomic(home.stack / "logs" / "envoy.log", "four\n")
    assert control.logs(home, "triton", 2) == "==> triton-pills-1234\ntwo\nthree"
    assert "==> envoy\nfour" in control.logs(home, None, 9)
    with pytest.raises(UserError, match="did you mean 'envoy'"):
        control.logs(home, "envoi", 9)
