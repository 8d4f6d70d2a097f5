import os

import pytest

from core.errors import UserError
from core.home import Home
from core.signing import PRIVATE_KEY, ensure_keys
from core.verdict import Outcome
from titrate import doctor
from titrate.doctor import checks


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def found(home):
    return {check.name: check for check in checks(home)}


def test_this_machine_can_start_the_engines_and_nothing_is_created(home):
    made = found(home)
    assert [made[name].verdict for name in ("python", "triton", "envoy", "mlflow")] == [Outcome.PASS] * 4
    assert made["envoy"].detail == "1.40.0"
    assert list(made) == [
        "python",
        "packages",
        "triton",
        "envoy",
        "mlflow",
        "disk",
        "memory",
        "shared memory",
        "home",
        "ports",
        "keys",
        "gpu",
    ]
    assert not home.root.exists()


def test_an_engine_that_is_missing_fails_with_its_remedy_and_the_rest_is_still_looked_at(home, monkeypatch):
    def missing():
        raise UserError("Triton needs libpython; install it")

    monkeypatch.setattr(doctor, "libpython", missing)
    triton = found(home)["triton"]
    assert (triton.verdict, triton.detail, triton.remedy) == (Outcome.FAIL, "Triton needs libpython", "install it")


def test_packages_that_differ_from_the_lock_are_named(home, monkeypatch, tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.0.1\nnot_a-package==1.0\npytest==0 ; python_version < '3'\n")
    monkeypatch.setattr(doctor, "LOCK", lock)
    packages = found(home)["packages"]
    assert packages.verdict is Outcome.FAIL
    assert packages.detail == "0 of 3 as locked; different or missing: numpy, not_a-package, pytest"
    assert "make setup" in packages.remedy


def test_without_a_lock_nothing_is_claimed(home, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "LOCK", tmp_path / "no.lock")
    assert found(home)["packages"].verdict is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("limit", "name"), [("LEAST_DISK", "disk"), ("LEAST_MEMORY", "memory"), ("LEAST_SHARED", "shared memory")]
)
def test_too_little_room_is_a_failure_with_a_remedy(home, monkeypatch, limit, name):
    monkeypatch.setattr(doctor, limit, 2**60)
    check = found(home)[name]
    assert check.verdict is Outcome.FAIL
    assert check.remedy


def test_a_key_that_others_may_read_is_told(home):
    private, _ = ensure_keys(home.keys)
    assert found(home)["keys"].verdict is Outcome.PASS
    private.chmod(0o644)
    assert found(home)["keys"].remedy == f"chmod 600 {home.keys / PRIVATE_KEY}"


def test_a_check_that_cannot_be_made_is_an_error_not_a_pass(home, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: os.stat("/nowhere/at/all"))  # noqa: PTH116
    assert found(home)["disk"].verdict is Outcome.ERROR
