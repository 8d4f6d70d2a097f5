"""Events, labels, contradictions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the first three tables."""
    op.create_table(
        "events",
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
        sa.Column("embedding", sa.LargeBinary),
        sa.Column("image", sa.JSON, nullable=False),
        sa.Column("latency_ms", sa.Float, nullable=False),
        sa.Column("user", sa.String(200)),
        sa.UniqueConstraint("prediction_id", "release", "arm", name="uq_events_key"),
    )
    op.create_index("ix_events_workload_at", "events", ["workload", "at"])
    for table, key in (("labels", False), ("contradictions", True)):
        op.create_table(
            table,
            sa.Column("prediction_id", sa.String(200), primary_key=True),
            sa.Column("label", sa.String(200), primary_key=key, nullable=False),
            sa.Column("source", sa.String(64), nullable=False),
            sa.Column("at", sa.BigInteger, nullable=False),
            sa.Column("received", sa.BigInteger, nullable=False),
        )


def downgrade() -> None:
    """Drop them."""
    for table in ("contradictions", "labels", "events"):
        op.drop_table(table)
