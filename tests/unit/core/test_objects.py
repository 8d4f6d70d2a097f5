"""Blobs and folders in a folder and in a real S3 API: the same contract."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import PermanentError, UserError
from core.objects import COMPLETE, Store


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URI of a bucket of a real S3 API on loopback."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    saved = dict(os.environ)
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://{host}:{port}",
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1",
    )
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir("titrate-test")
    yield "s3://titrate-test"
    os.environ.clear()
    os.environ.update(saved)
    server.stop()


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return Store(f"file://{tmp_path / 'store'}")
    return Store(f"{request.getfixturevalue('bucket')}/{tmp_path.name}")


def test_blob_comes_back_by_its_digest(store: Store) -> None:
    digest = store.put_blob(b"image")
    assert store.put_blob(b"image") == digest
    assert store.blob(digest) == b"image"


def test_missing_blob_is_named(store: Store) -> None:
    with pytest.raises(PermanentError, match="0" * 12):
        store.blob("0" * 64)


def test_published_folder_comes_back(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "release"
    (source / "pills" / "1").mkdir(parents=True)
    (source / "pills" / "1" / "model.py").write_text("x = 1")
    uri = store.publish(source, "releases/abc")
    assert uri.endswith("releases/abc")
    assert store.names("releases") == ["abc"]
    fetched = store.fetch("releases/abc", tmp_path / "fetched")
    assert (fetched / "pills" / "1" / "model.py").read_text() == "x = 1"
    assert not (fetched / COMPLETE).exists()


def test_half_published_folder_is_invisible(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "release"
    source.mkdir()
    (source / "card.md").write_text("x")
    store.publish(source, "releases/half")
    store._fs.rm_file(store._path("releases/half", COMPLETE))
    assert not store.exists("releases/half")
    assert store.names("releases") == []
    with pytest.raises(UserError, match="not completely published"):
        store.fetch("releases/half", tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_removed_folder_is_gone(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f").write_text("x")
    store.publish(tmp_path / "a", "releases/gone")
    store.remove("releases/gone")
    assert store.names("releases") == []
    store.remove("releases/gone")


def test_names_cannot_leave_the_store(store: Store) -> None:
    with pytest.raises(UserError, match="leaves the store"):
        store.exists("../../etc")


def test_changed_blob_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    digest = store.put_blob(b"image")
    (tmp_path / "blobs" / digest[:2] / digest).write_bytes(b"other")
    with pytest.raises(PermanentError, match="was changed"):
        store.blob(digest)
