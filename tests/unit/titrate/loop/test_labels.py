"""`titrate labels import` against the real service: rows of every kind, a file of many batches, files that are none."""

import subprocess
import sys
import time
from types import SimpleNamespace

import httpx
import pytest
from click.testing import CliRunner

from core.errors import UserError
from serving.triton.server import free_ports
from titrate.cli import main
from titrate.loop import labels
from titrate.loop.labels import import_labels


@pytest.fixture
def service(served, monkeypatch):
    """The feedback service of that home, as the stack would start it."""
    port = free_ports().http
    command = [sys.executable, "-m", "serving.feedback", "--database", served.home.events, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").is_success:
                break
        except httpx.TransportError:
            assert time.monotonic() < deadline
        time.sleep(0.05)
    monkeypatch.setattr(labels, "home_ports", lambda home: SimpleNamespace(feedback=port))
    monkeypatch.setattr(labels, "read_state", lambda home: object())
    yield served
    process.terminate()
    process.wait(20)


def write(path, text):
    path.write_text(text)
    return path


def test_every_row_is_told_what_became_of_it(service, tmp_path):
    service.send(3)
    text = (
        "prediction_id,label,at\nr1-0,red,\nr2-0,blue,\nr1-0,blue,\nr9-0,red,\nr3-0,red,2999-01-01T00:00:00Z\nr3-0,,\n"
    )
    found = import_labels(service.home, write(tmp_path / "labels.csv", text))
    assert found.results == {"stored": 2, "contradicts": 1, "waiting": 1, "future": 1, "invalid": 1}
    assert [line for line, _ in found.refused] == ["line 4", "line 6", "line 7"]
    assert "'blue' for 'r1-0'" in found.refused[0][1]


def test_a_long_file_goes_in_parts_and_twice_is_harmless(service, tmp_path):
    rows = "".join(f"r{number}-0,red\n" for number in range(12_000))
    file = write(tmp_path / "labels.csv", "\ufeffprediction_id,label\n" + rows)
    assert import_labels(service.home, file).results == {"waiting": 12_000}
    assert import_labels(service.home, file).results == {"duplicate": 12_000}


def test_the_command_counts_and_lists_what_was_not_taken(service, tmp_path):
    service.send(2)
    file = write(tmp_path / "labels.csv", "prediction_id,label\nr1-0,red\nr1-0,blue\n")
    done = CliRunner().invoke(main, ["labels", "import", str(file), "--home", str(service.home.root)])
    assert done.exit_code == 3
    assert "1 stored, 1 contradicts" in done.output and "line 3" in done.output


@pytest.mark.parametrize(
    ("text", "word"),
    [("id,label\na,b\n", "no column 'prediction_id'"), ("", "no column 'prediction_id'")],
)
def test_a_file_without_its_columns_is_refused(service, tmp_path, text, word):
    with pytest.raises(UserError, match=word):
        import_labels(service.home, write(tmp_path / "labels.csv", text))


def test_no_file_and_no_stack_are_told(served, service, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot read the labels"):
        import_labels(served.home, tmp_path / "none.csv")
    monkeypatch.setattr(labels, "read_state", lambda home: None)
    with pytest.raises(UserError, match="the stack is not running"):
        import_labels(served.home, tmp_path / "none.csv")
