"""The tables of the feedback service: one definition for SQLite (laptop) and PostgreSQL (cluster).

`migrations/` makes them; a test holds the two equal. Times are microseconds since 1970 (UTC) in an integer, which both
databases keep exactly and compare fast.
"""

import sqlalchemy as sa

metadata = sa.MetaData()
_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")

events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", _SERIAL, primary_key=True),
    sa.Column("prediction_id", sa.String(200), nullable=False),
    sa.Column("release", sa.String(200), nullable=False),
    sa.Column("arm", sa.String(200), nullable=False),
    sa.Column("request_id", sa.String(200), nullable=False),
    sa.Column("item", sa.Integer, nullable=False),
    sa.Column("workload", sa.String(200), nullable=False),
    sa.Column("model_version", sa.String(200), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.String(64), nullable=False),
    sa.Column("label", sa.String(200)),
    sa.Column("probability", sa.Float),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("probabilities", sa.JSON, nullable=False),
    sa.Column("abstain", sa.Boolean),
    sa.Column("embedding", sa.LargeBinary),  # float32 [d], little-endian
    sa.Column("image", sa.JSON, nullable=False),
    sa.Column("latency_ms", sa.Float, nullable=False),
    sa.Column("user", sa.String(200)),
    sa.UniqueConstraint("prediction_id", "release", "arm", name="uq_events_key"),
    sa.Index("ix_events_workload_at", "workload", "at"),
)

labels = sa.Table(
    "labels",
    metadata,
    sa.Column("prediction_id", sa.String(200), primary_key=True),
    sa.Column("label", sa.String(200), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
)
"""The label that counts: the first one given. Counts that a rollout has read never change."""

contradictions = sa.Table(
    "contradictions",
    metadata,
    sa.Column("prediction_id", sa.String(200), primary_key=True),
    sa.Column("label", sa.String(200), primary_key=True),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
)
"""Labels that differ from the one that counts, for people to look at."""
