"""The events of a home, for those who only read them: what keeps them is `serving/feedback`."""

from pathlib import Path

import sqlalchemy as sa

from core.home import Home

PATIENCE = 1.0
"""Seconds for a lock of the database."""


def file(home: Home) -> Path:
    """The database; it is there once a stack of this home has been up."""
    return home.root / "events.db"


def reader(home: Home) -> sa.Engine:
    """Reads alone, a new connection each time, so that nothing is held between two looks."""
    url = sa.URL.create("sqlite", database=f"file:{file(home)}", query={"mode": "ro", "uri": "true"})
    return sa.create_engine(url, connect_args={"timeout": PATIENCE}, poolclass=sa.NullPool)
