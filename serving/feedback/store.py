"""Keeps events and labels in SQLite (WAL) or PostgreSQL: what was acknowledged survives a killed process.

A batch is one transaction, and a row is stored once for each key: a sender that got no answer sends again. `app.py`
is the HTTP face; `counts.py` turns the rows into the numbers that rollouts read.
"""

import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy.dialects import postgresql, sqlite

from core.errors import TemporaryError, UserError
from core.events import CLOCK_SKEW_SECONDS, Event, Label
from serving.feedback import schema

BUSY_SECONDS = 5
"""How long a writer waits for another one before the sender is told to come again."""
_CHUNK = 1000  # rows a statement: SQLite allows 32,766 variables
_MIGRATION_LOCK = 0x7469_7472  # "titr": two replicas that start together take turns


class LabelResult(NamedTuple):
    """What became of one label."""

    result: Literal["stored", "waiting", "duplicate", "contradicts", "future"]
    """waiting: kept, its event has not come (or was not sampled); contradicts: kept apart, the first label stands;
    future: refused."""
    delay_seconds: float | None = None
    """From the prediction to the label, of a stored one."""
    workload: str = ""
    """Of a stored one."""
    right: bool | None = None
    """Whether a stored one is what its client was answered; None where the image had been refused."""


class Predicted(NamedTuple):
    """What a client was answered."""

    at: int
    workload: str
    label: str | None


class Store:
    """The database behind one engine; safe to use from several threads and processes."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._insert: Any = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    def add_events(self, events: Sequence[Event]) -> int:
        """Store the events that are new, in one transaction; returns how many. Raises TemporaryError."""
        if not events:
            return 0
        received = _now()
        new = self._insert(schema.events).on_conflict_do_nothing().returning(schema.events.c.seq)
        with self.writing() as connection:
            rows = [_event_row(event, received) for event in sorted(events, key=_key)]
            return len(connection.execute(new, rows).all())

    def add_labels(self, given: Sequence[Label]) -> list[LabelResult]:
        """Store labels in one transaction; says for each row what became of it. Raises TemporaryError."""
        received = _now()
        rows = [_label_row(label, received) for label in given]
        with self.writing() as connection:
            results: list[LabelResult] = []
            for start in range(0, len(rows), _CHUNK):
                results += self._add_label_rows(connection, rows[start : start + _CHUNK])
            return results

    def _add_label_rows(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> list[LabelResult]:
        latest = rows[0]["received"] + int(CLOCK_SKEW_SECONDS * 1e6)
        firsts: dict[str, dict[str, Any]] = {}
        for row in rows:
            if row["at"] <= latest:
                firsts.setdefault(row["prediction_id"], row)
        added = self._insert_labels(connection, firsts)
        standing = _standing(connection, firsts)
        predicted = _predicted(connection, firsts)
        results = [_judge(row, latest, standing, predicted, added) for row in rows]
        against = [row for row, result in zip(rows, results, strict=True) if result.result == "contradicts"]
        if against:
            connection.execute(self._insert(schema.contradictions).on_conflict_do_nothing(), against)
        return results

    def _insert_labels(self, connection: sa.Connection, firsts: dict[str, dict[str, Any]]) -> set[str]:
        if not firsts:
            return set()
        new = self._insert(schema.labels).on_conflict_do_nothing().returning(schema.labels.c.prediction_id)
        return set(connection.execute(new, [firsts[key] for key in sorted(firsts)]).scalars())

    def forget(self, before: int) -> int:
        """Remove events that were answered, and labels that came, before then (microseconds since 1970); how many.

        In parts, so that no writer waits long. Raises TemporaryError; then a part may be gone.
        """
        kinds = (
            (schema.events, schema.events.c.seq, schema.events.c.at),
            (schema.labels, schema.labels.c.prediction_id, schema.labels.c.received),
            (schema.contradictions, schema.contradictions.c.prediction_id, schema.contradictions.c.received),
        )
        removed = 0
        for table, key, time_of in kinds:
            old = sa.select(key).where(time_of < before).order_by(key).limit(_CHUNK)
            part = sa.delete(table).where(key.in_(old), time_of < before)
            while gone := self._removed(part):
                removed += gone
        return removed

    def _removed(self, part: sa.Delete) -> int:
        with self.writing() as connection:
            return int(connection.execute(part).rowcount)

    def ping(self) -> None:
        """Raise TemporaryError unless the database answers."""
        with self.reading() as connection:
            connection.execute(sa.select(schema.labels.c.label).limit(1))

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction that holds the write lock from its start (SQLite)."""
        with _temporary(), self.engine.connect() as plain:
            connection = plain.execution_options(titrate_writes=True)
            with connection.begin():
                yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One consistent view; does not wait for writers."""
        with _temporary(), self.engine.connect() as connection:
            yield connection


def open_store(url: str) -> Store:
    """The store at `url` (`sqlite:///FILE` or `postgresql+psycopg://...`), its tables brought up to date.

    Raises UserError for a URL that is neither, TemporaryError when the database does not answer.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise UserError(f"database {url!r}: not a URL; use sqlite:///FILE or postgresql+psycopg://HOST/NAME") from error
    if parsed.drivername == "sqlite":
        engine = _sqlite_engine(parsed)
    elif parsed.drivername == "postgresql+psycopg":
        engine = sa.create_engine(parsed, pool_pre_ping=True, pool_size=8, max_overflow=8, pool_timeout=BUSY_SECONDS)
    else:
        raise UserError(
            f"database driver {parsed.drivername!r} is not supported; use sqlite:///FILE or postgresql+psycopg://"
        )
    with _temporary():
        migrate(engine)
    return Store(engine)


def migrate(engine: sa.Engine, revision: str = "head") -> None:
    """Bring the tables to `revision`."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.connect().execution_options(titrate_writes=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise UserError("database 'sqlite://': name a file, as in sqlite:///events.db")
    Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):  # FULL: acknowledged means on the disk
            connection.execute(f"PRAGMA {pragma}").close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("titrate_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _temporary() -> Iterator[None]:
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.TimeoutError) as error:
        raise TemporaryError(f"the database does not answer: {type(error).__name__}") from error


def _judge(
    row: dict[str, Any], latest: int, standing: dict[str, str], predicted: dict[str, Predicted], added: set[str]
) -> LabelResult:
    key = row["prediction_id"]
    if row["at"] > latest:
        return LabelResult("future")
    if standing[key] != row["label"]:
        return LabelResult("contradicts")
    if key not in added:
        return LabelResult("duplicate")
    added.remove(key)  # the same row again in this batch is a duplicate
    if key not in predicted:
        return LabelResult("waiting")
    answer = predicted[key]
    right = None if answer.label is None else row["label"] == answer.label
    return LabelResult("stored", (row["at"] - answer.at) / 1e6, answer.workload, right)


def _standing(connection: sa.Connection, keys: Iterable[str]) -> dict[str, str]:
    """The first label of each prediction."""
    key, label = schema.labels.c.prediction_id, schema.labels.c.label
    rows = connection.execute(sa.select(key, label).where(key.in_(list(keys))))
    return {row.prediction_id: row.label for row in rows}


def _predicted(connection: sa.Connection, keys: Iterable[str]) -> dict[str, Predicted]:
    """What clients were answered; where a copy was sent to the candidate too, its answer reached nobody."""
    of = schema.events.c
    query = sa.select(of.prediction_id, of.at, of.workload, of.label).where(of.prediction_id.in_(list(keys)))
    copies_first = sa.case((of.arm == "candidate", 0), else_=1)
    return {key: Predicted(*answer) for key, *answer in connection.execute(query.order_by(copies_first))}


def _key(event: Event) -> tuple[str, str, str]:
    """Rows go in by this order, so that two writers cannot wait for each other in a ring."""
    return event.prediction_id, event.release, event.arm


def _now() -> int:
    return time.time_ns() // 1000


def _event_row(event: Event, received: int) -> dict[str, Any]:
    row = dict(event)
    row["at"] = int(event.at.timestamp() * 1e6)
    row["received"] = received
    if event.embedding is not None:
        row["embedding"] = struct.pack(f"<{len(event.embedding)}f", *event.embedding)
    return row


def _label_row(label: Label, received: int) -> dict[str, Any]:
    at = received if label.at is None else int(label.at.timestamp() * 1e6)
    return {**dict(label), "at": at, "received": received}
