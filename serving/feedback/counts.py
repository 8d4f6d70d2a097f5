"""Counts by arm, release and metric in a range of event times: what a rollout's evidence is made of.

Every count is of something that happened `k` times in `n`. Events never change and the first label of a prediction
stands, so two reads with the same `since` and an open end differ by increments that are never negative.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa

from core.events import OK
from serving.feedback.schema import events, labels


class Count(NamedTuple):
    """`k` of `n` for one metric of one release in one arm."""

    arm: str
    release: str
    metric: str
    n: int
    k: int


class Range(NamedTuple):
    """Which events: those of `workload` with since <= at < until, microseconds since 1970."""

    workload: str
    since: int
    until: int

    def holds(self, table: sa.FromClause) -> sa.ColumnElement[bool]:
        """The condition on the rows of `table`."""
        return sa.and_(table.c.workload == self.workload, table.c.at >= self.since, table.c.at < self.until)


def counts(connection: sa.Connection, of: Range, slow_ms: float | None = None) -> list[Count]:
    """All counts with n > 0, ordered.

    refused, abstained, slow (where a limit is given), correct (of the labelled answers), agrees (of the answers that
    the stable arm gave too: mirrored requests) and `predicted/<label>` (the prediction mix).
    """
    found = [*_outcomes(connection, of, slow_ms), *_agreement(connection, of), *_mix(connection, of)]
    return sorted(count for count in found if count.n)


def _times(condition: sa.ColumnElement[bool]) -> Any:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def _outcomes(connection: sa.Connection, of: Range, slow_ms: float | None) -> Iterator[Count]:
    answered = events.c.outcome == OK
    labelled = sa.and_(answered, labels.c.label.is_not(None))
    metrics = {
        "refused": (sa.true(), sa.not_(answered)),
        "abstained": (answered, sa.and_(answered, events.c.abstain.is_(True))),
        "correct": (labelled, sa.and_(labelled, events.c.label == labels.c.label)),
    }
    if slow_ms is not None:
        metrics["slow"] = (sa.true(), events.c.latency_ms > slow_ms)
    columns = [_times(condition) for pair in metrics.values() for condition in pair]
    query = (
        sa.select(events.c.arm, events.c.release, *columns)
        .outerjoin_from(events, labels, labels.c.prediction_id == events.c.prediction_id)
        .where(of.holds(events))
        .group_by(events.c.arm, events.c.release)
    )
    for arm, release, *numbers in connection.execute(query):
        for metric, n, k in zip(metrics, numbers[::2], numbers[1::2], strict=True):
            yield Count(arm, release, metric, int(n), int(k))


def _agreement(connection: sa.Connection, of: Range) -> Iterator[Count]:
    stable = events.alias("stable")
    same = _times(stable.c.label == events.c.label)
    paired = sa.and_(stable.c.prediction_id == events.c.prediction_id, stable.c.arm == "stable", stable.c.outcome == OK)
    query = (
        sa.select(events.c.arm, events.c.release, sa.func.count(), same)
        .join_from(events, stable, paired)
        .where(of.holds(events), events.c.outcome == OK, events.c.arm != "stable")
        .group_by(events.c.arm, events.c.release)
    )
    for arm, release, n, k in connection.execute(query):
        yield Count(arm, release, "agrees", int(n), int(k))


def _mix(connection: sa.Connection, of: Range) -> Iterator[Count]:
    query = (
        sa.select(events.c.arm, events.c.release, events.c.label, sa.func.count())
        .where(of.holds(events), events.c.outcome == OK)
        .group_by(events.c.arm, events.c.release, events.c.label)
    )
    rows = connection.execute(query).all()
    totals: dict[tuple[str, str], int] = {}
    for arm, release, _, k in rows:
        totals[arm, release] = totals.get((arm, release), 0) + int(k)
    for arm, release, label, k in rows:
        yield Count(arm, release, f"predicted/{label}", totals[arm, release], int(k))
