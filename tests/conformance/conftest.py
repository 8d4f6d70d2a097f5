"""One Triton for the tests of the suite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.identity import Server, running


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The identity models behind the real Triton."""
    with running(Path(tmp_path_factory.mktemp("triton"))) as server:
        yield server
