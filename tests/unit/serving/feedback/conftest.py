from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from core.events import Event
from serving.feedback.store import open_store


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:  # pgserver asks for this folder at import, and it may be missing
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        import pgserver
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete")
    yield server
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'feedback.db'}"
    server = request.getfixturevalue("postgres")
    name = f"d{abs(hash(request.node.name))}"
    server.psql(f"create database {name};")
    return server.get_uri(name).replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def store(database):
    opened = open_store(database)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def make_event():
    def make(request="r", item=0, arm="stable", **changes):
        facts = {
            "prediction_id": f"{request}-{item}",
            "request_id": request,
            "item": item,
            "workload": "pills",
            "release": "f" * 64,
            "model_version": "1",
            "arm": arm,
            "at": datetime(2026, 1, 1, tzinfo=UTC),
            "outcome": "ok",
            "label": "red",
            "probability": 0.75,
            "labels": ["red", "blue"],
            "probabilities": [0.75, 0.25],
            "abstain": False,
            "embedding": [0.5, -1.25, 3.0],
            "image": {"shape_ratio": 1.5},
            "latency_ms": 3.0,
            "user": None,
        }
        return Event(**facts | changes)

    return make


@pytest.fixture
def rows():
    def read(store, table):
        with store.reading() as connection:
            return [row._asdict() for row in connection.execute(sa.select(table))]

    return read
