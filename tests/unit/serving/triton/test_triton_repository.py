import json

import pytest

from core.errors import UserError
from serving.triton.repository import write
from serving.triton.server import link_models
from tests.colours import PREPROCESS, write_repository


def test_the_repository_holds_what_the_server_loads_and_nothing_else(tmp_path):
    folder = write_repository(tmp_path, workload="reward") / "reward"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert names == [
        "1/counts.py",
        "1/events.py",
        "1/explanation.py",
        "1/features.py",
        "1/model.json",
        "1/model.py",
        "1/network.onnx",
        "1/preprocess.py",
        "config.pbtxt",
    ]
    assert (folder / "1" / "preprocess.py").read_text() == PREPROCESS.read_text()
    assert json.loads((folder / "1" / "model.json").read_text())["labels"] == ["red", "green", "blue"]
    text = (folder / "config.pbtxt").read_text()
    assert 'name: "reward"' in text
    assert 'name: "labels" data_type: TYPE_STRING dims: [ 3 ]' in text, "top k is never more than there are labels"
    assert "count: 1" in text


def test_equal_content_gives_equal_files(tmp_path):
    """Or the digest of a release would depend on when it was written."""
    first, second = write_repository(tmp_path / "a"), write_repository(tmp_path / "b")
    assert (first / "pills" / "config.pbtxt").read_bytes() == (second / "pills" / "config.pbtxt").read_bytes()
    assert (first / "pills/1/model.json").read_bytes() == (second / "pills/1/model.json").read_bytes()


def test_a_release_without_preprocessing_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"preprocess\.py"):
        write(tmp_path, None, tmp_path / "network.onnx", [tmp_path / "other.py"])


def test_links_leave_out_what_is_no_model(tmp_path):
    repository = write_repository(tmp_path)
    (repository / "reference").mkdir()
    (repository / "card.md").write_text("a card")
    assert link_models(repository, tmp_path / "view") == ["pills"]
    assert [path.name for path in (tmp_path / "view").iterdir()] == ["pills"]
    assert (tmp_path / "view/pills/1/network.onnx").resolve() == (repository / "pills/1/network.onnx").resolve()


def test_byte_code_does_not_land_in_the_release(tmp_path):
    repository = write_repository(tmp_path)
    link_models(repository, tmp_path / "view")
    (tmp_path / "view/pills/1/__pycache__").mkdir()
    assert not (repository / "pills/1/__pycache__").exists()
    link_models(repository, tmp_path / "view")
    assert not (tmp_path / "view/pills/1/__pycache__").exists(), "a new view has none of the old one"


def test_a_folder_without_models_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no Triton model"):
        link_models(tmp_path, tmp_path / "view")
