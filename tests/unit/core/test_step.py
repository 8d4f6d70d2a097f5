import errno
import json
import tomllib
from pathlib import Path

import pytest

from core.errors import DataError, PermanentError, UserError
from core.images import TRAIN_IMAGE, VERSION
from core.progress import FILE, LINES, Progress
from core.step import reported, reporting_errors


@pytest.fixture
def error_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run" / "error.json"
    monkeypatch.setenv("TITRATE_ERROR_FILE", str(path))
    monkeypatch.delenv("TITRATE_PARENT", raising=False)
    return path


def test_an_error_is_written_printed_and_raised_again(error_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError), reporting_errors("ingest"):
        raise DataError("two rows are bad", [("a.png", "zero bytes"), ("é.png", "truncated")])
    assert json.loads(error_file.read_text()) == {
        "type": "DataError",
        "message": "two rows are bad",
        "rows": [["a.png", "zero bytes"], ["é.png", "truncated"]],
        "step": "ingest",
    }
    assert capsys.readouterr().err == "error: two rows are bad\n"


def test_who_started_a_step_gets_the_error_that_it_wrote(error_file: Path) -> None:
    assert reported(error_file) is None
    with pytest.raises(DataError), reporting_errors("ingest"):
        raise DataError("bad rows", [("a.png", "empty")])
    error = reported(error_file)
    assert isinstance(error, DataError)
    assert (str(error), error.rows) == ("bad rows", [("a.png", "empty")])


def test_where_a_log_is_all_there_is_progress_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FILE, LINES)
    progress = Progress("train", 2)
    progress.update(1)
    progress.update(2, "loss 1.0")
    assert capsys.readouterr().err == "train: 2/2, 0 s left  loss 1.0\n"


def test_a_step_that_ends_well_writes_nothing(error_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with reporting_errors("ingest"):
        pass
    assert not error_file.exists() and capsys.readouterr().err == ""


def test_without_an_error_file_the_error_is_still_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TITRATE_ERROR_FILE", raising=False)
    with pytest.raises(PermanentError), reporting_errors("split"):
        raise PermanentError("no")
    assert capsys.readouterr().err == "error: no\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_trouble_with_the_storage_is_the_users_error_and_names_the_place(error_file: Path, number: int) -> None:
    with pytest.raises(UserError, match="/data/store/blobs"), reporting_errors("ingest"):
        raise OSError(number, "words", "/data/store/blobs")
    assert json.loads(error_file.read_text())["type"] == "UserError"


def test_a_defect_stays_a_defect(error_file: Path) -> None:
    with pytest.raises(ConnectionResetError), reporting_errors("ingest"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")
    with pytest.raises(ZeroDivisionError), reporting_errors("ingest"):
        raise ZeroDivisionError
    assert not error_file.exists()


def test_the_image_tag_is_the_version_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["version"] == VERSION
    assert f"titrate/train:{VERSION}" == TRAIN_IMAGE
