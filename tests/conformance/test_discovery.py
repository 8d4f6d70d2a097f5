"""The suite finds its way on a model that it knows nothing about."""

from pathlib import Path

import pytest

from core.errors import UserError
from tests.colours import write_repository
from tests.conformance.__main__ import only_model
from tests.conformance.identity import Server, running
from tests.conformance.rest import Rest
from tests.conformance.rpc import Rpc
from tests.conformance.subject import discover


def test_a_release_that_wants_images_is_sent_images(tmp_path: Path) -> None:
    with running(tmp_path, write_repository(tmp_path / "release")) as server:
        rest, rpc = Rest(f"http://127.0.0.1:{server.ports.http}", {}), Rpc(f"127.0.0.1:{server.ports.grpc}", {})
        subject = discover(rest, rpc, only_model(rest))
        rpc.close()
    assert [t.name for t in subject.json_view().inputs] == ["pixels"], "JSON cannot carry an image"
    assert [t.name for t in subject.binary_view().inputs] == ["image"]
    assert [t.name for t in subject.raw_view().inputs] == ["image"]
    assert subject.raw_view().expected["error"].ravel().tolist() == [b""]


def test_a_model_that_is_not_there_is_named(triton: Server) -> None:
    with pytest.raises(UserError, match="no-such-model"):
        discover(Rest(f"http://127.0.0.1:{triton.ports.http}", {}), None, "no-such-model")


def test_of_two_models_one_must_be_named(triton: Server) -> None:
    with pytest.raises(UserError, match="identity, identity_batched"):
        only_model(Rest(f"http://127.0.0.1:{triton.ports.http}", {}))
