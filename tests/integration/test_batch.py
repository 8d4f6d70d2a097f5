"""A folder to a table, by the command as it is run, and drawings of where the network looked: over a real Triton."""

import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

import titrate.batch as module
from core.errors import UserError
from core.files import write_atomic
from core.home import Home
from tests.colours import RELEASE, picture
from titrate.batch import score
from titrate.predict import predict
from titrate.stack.ports import HomePorts, record
from titrate.stack.state import ENTRY, ServiceStatus, StackState

COLOURS = ("red", "lime", "blue")
PART = 64


@pytest.fixture(scope="module")
def home(triton, tmp_path_factory):
    """A home whose state names the shared Triton: the stack's other engines have no part in this."""
    one = Home(tmp_path_factory.mktemp("home") / "ho'me")
    at = triton.ports
    with subprocess.Popen([sys.executable, "-c", "input()", ENTRY, str(one.root)], stdin=subprocess.PIPE) as supervisor:
        record(one, HomePorts(base=at.http - 1, edge=at.http))
        server = ServiceStatus(name=f"triton-pills-{RELEASE[:8]}", state="ready", address=triton.http_url)
        serving = {"pills": RELEASE}
        state = StackState(supervisor=supervisor.pid, wanted=serving, serving=serving, services=(server,))
        write_atomic(one.stack / "state.json", state.model_dump_json())
        write_atomic(one.stack / "supervisor.lock", str(supervisor.pid))
        yield one
        supervisor.communicate(b"\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three parts of images, and between them what is none."""
    root = tmp_path_factory.mktemp("images")
    (root / "deeper").mkdir()
    contents = [picture(name, 8) for name in COLOURS]
    for number in range(2 * PART + 50):
        (root / "deeper" / f"{number:05d} ü.png").write_bytes(contents[number % 3])
    (root / "a.jpg").write_bytes(b"")
    (root / "b.PNG").write_bytes(b"junk")
    (root / "c.png").symlink_to(root / "notes.txt")
    (root / "notes.txt").write_text("no image")
    return root


KILLED_AFTER_A_PART = f"""
import os, signal, titrate.batch as module
from titrate.cli import main
module.PART, whole = {PART}, module._write
def write(rows, part):
    whole(rows, part)
    os.kill(os.getpid(), signal.SIGKILL)
module._write = write
main()
"""


def test_a_killed_batch_goes_on_where_it_was_and_bad_images_are_rows(home, folder, tmp_path, monkeypatch):
    table, parts = tmp_path / "out.parquet", tmp_path / ".out.parquet.parts"
    line = [sys.executable, "-c", KILLED_AFTER_A_PART, "predict", "--home", str(home.root)]
    killed = subprocess.run([*line, "--batch", str(folder), "-o", str(table)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not table.exists()
    assert len(list(parts.glob("0*.parquet"))) == 1
    monkeypatch.setattr(module, "PART", PART)
    told = score(home, folder, table, "pills")
    assert f"{PART + 53} of {2 * PART + 53} images now" in told
    assert "3 with an error" in told
    rows = pq.read_table(table).to_pylist()
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    errors = {row["path"].removeprefix(f"{folder}/"): row["error"].split(":")[0] for row in rows if row["error"]}
    assert errors == {"a.jpg": "empty", "b.PNG": "not_an_image", "c.png": "not_an_image"}
    good = [row["label"] for row in rows if not row["error"]]
    assert good == [["red", "green", "blue"][number % 3] for number in range(2 * PART + 50)]
    assert {row["release"] for row in rows} == {RELEASE}
    assert not parts.exists()
    with pytest.raises(UserError, match="exists; name another file"):
        score(home, folder, table, "pills")


def interrupted(rows, part):
    raise KeyboardInterrupt


def test_what_changed_since_it_began_is_told(home, tmp_path, monkeypatch):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(3):
        (images / f"{number}.png").write_bytes(picture("red", 8))
    table = tmp_path / "out.parquet"
    monkeypatch.setattr(module, "PART", 2)
    monkeypatch.setattr(module, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score(home, images, table, "pills")
    monkeypatch.undo()
    (images / "more.png").write_bytes(picture("blue", 8))
    with pytest.raises(UserError, match="images was 3, is 4"):
        score(home, images, table, "pills")


def test_an_unreadable_file_is_a_row_and_costs_no_other(home, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH_BYTES", 200)
    (tmp_path / "a.png").write_bytes(picture("red", 8))
    (tmp_path / "b.png").write_bytes(b"x" * 201)
    score(home, tmp_path, tmp_path / "t.parquet", "pills")
    assert [row["error"].split(":")[0] for row in pq.read_table(tmp_path / "t.parquet").to_pylist()] == [
        "",
        "too_large",
    ]


def test_explanations_are_drawn_for_good_images(home, tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"]
    for path, content in zip(paths, (picture("red"), b"junk", picture("black")), strict=True):
        path.write_bytes(content)
    predict(home, paths, "pills", tmp_path / "drawn")
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert [path.name for path in drawn] == ["1-a.png", "3-c.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


@pytest.mark.parametrize(("folder", "reason"), [("nowhere", "is no folder"), ("", "holds no image")])
def test_a_folder_without_images_is_refused(tmp_path, folder, reason):
    with pytest.raises(UserError, match=reason):
        score(Home(tmp_path / "home"), tmp_path / folder, tmp_path / "t.parquet", "pills")
