"""What events and labels say about the arms: accuracy, agreement, the mix of answers, and metrics of the user's own.

An event names the arm that the edge gave its request to and the release that answered; both must fit, so that testers'
requests and answers that stable gave in the candidate's place count for nobody. Events are only ever added and the
first label of a prediction stands, so counts since the rollout's start never fall.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa

from core.errors import TemporaryError, UserError
from core.events import OK
from core.home import Home
from serving.feedback.schema import events, labels
from serving.rollout.metrics import ACCURACY, AGREEMENT, MIX, Compared, Confidence, Mix, Query, Slice
from serving.rollout.observations import Arm, Reading
from serving.rollout.spec import RolloutSpec
from titrate import kept_events

Pair = tuple[int, int]
"""(bad, good)."""


class Answers(NamedTuple):
    """Some answers of one arm that are alike."""

    arm: str
    user: str | None
    predicted: str
    truth: str | None
    n: int
    closed: int
    """Of them, those that a label could have reached by now: given no later than the newest that has one."""


class EventCounts:
    """The events of one home."""

    def __init__(self, home: Home) -> None:
        self._file, self.engine = kept_events.file(home), kept_events.reader(home)
        """Reads alone."""

    def check(self, spec: RolloutSpec) -> None:
        """Raise UserError when a query of the spec cannot be asked, and for groups that nobody counts."""
        for part in spec.slices:
            if part.metric != ACCURACY:
                raise UserError(
                    f"slices of {part.metric!r}: only {ACCURACY!r} is counted by group here; a metric of your own with "
                    "the group in its SQL guards any other"
                )
        for name, query in own(spec):
            if not self._file.exists():
                raise UserError(f"metric {name!r} asks the events, and there are none; `titrate stack up` keeps them")
            try:
                with self.engine.connect() as connection:
                    _asked(connection, query, spec, "candidate", 0)
            except (sa.exc.StatementError, TypeError, ValueError) as error:
                reason = getattr(error, "orig", None) or error
                raise UserError(f"metric {name!r}: its SQL fails: {reason}; it must give one number") from error

    def readings(self, spec: RolloutSpec, stamp: float, since: int) -> list[Reading]:
        """Both arms' counts of events since `since` (microseconds since 1970); none without a database.

        Raises TemporaryError when it is locked.
        """
        if not self._file.exists():
            return []
        try:
            with self.engine.connect() as connection:
                return list(_readings(connection, spec, stamp, since))
        except (sa.exc.DBAPIError, TypeError, ValueError) as error:
            raise TemporaryError(f"the events cannot be counted: {getattr(error, 'orig', None) or error}") from error

    def answered(self, workload: str, release: str, since: int) -> tuple[Pair, int]:
        """((wrong, right), answers) of one release in any arm; raises TemporaryError."""
        if not self._file.exists():
            return (0, 0), 0
        try:
            with self.engine.connect() as connection:
                mine = (events.c.workload == workload, events.c.release == release, events.c.at >= since)
                rows = _grouped(connection, sa.and_(*mine, events.c.arm == "stable", events.c.outcome == OK))
        except sa.exc.DBAPIError as error:
            raise TemporaryError(f"the events cannot be counted: {error.orig}") from error
        return _accuracy(rows), sum(row.n for row in rows)


def own(spec: RolloutSpec) -> list[tuple[str, Query]]:
    """The user's own metrics."""
    return [(m.name, m.query) for m in spec.metrics if isinstance(m, Compared) and m.query]


def _readings(connection: sa.Connection, spec: RolloutSpec, stamp: float, since: int) -> Iterator[Reading]:
    arms: tuple[tuple[Arm, str], ...] = (("stable", spec.stable), ("candidate", spec.candidate))
    fits = sa.or_(*(sa.and_(events.c.arm == arm, events.c.release == release) for arm, release in arms))
    where = sa.and_(fits, events.c.workload == spec.workload, events.c.at >= since, events.c.outcome == OK)
    rows = _grouped(connection, where)
    sure = {m.kind: _confidence(connection, where, m.bounds) for m in spec.metrics if isinstance(m, Confidence)}
    for arm, _ in arms:
        mine = [row for row in rows if row.arm == arm]
        counts: dict[str, tuple[int, ...]] = dict(_of_arm(spec, mine))
        counts |= {name: by_arm[arm] for name, by_arm in sure.items()}
        counts |= {name: _asked(connection, query, spec, arm, since) for name, query in own(spec)}
        if arm == "candidate" and AGREEMENT in spec.sizes:
            counts[AGREEMENT] = _agreement(connection, spec, since)
        answers = {name: sum(row.closed for row in mine) for name in spec.labelled}
        yield Reading(source="events", arm=arm, stamp=stamp, counts=counts, eligible=answers)


def _grouped(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[Answers]:
    joined = events.outerjoin(labels, labels.c.prediction_id == events.c.prediction_id)
    newest = sa.select(sa.func.max(events.c.at)).select_from(joined).where(where, labels.c.label.is_not(None))
    alike = (events.c.arm, events.c.user, events.c.label, labels.c.label)
    closed = sa.func.sum(sa.case((events.c.at <= newest.scalar_subquery(), 1), else_=0))
    query = sa.select(*alike, sa.func.count(), closed).select_from(joined).where(where).group_by(*alike)
    return [Answers(*row) for row in connection.execute(query)]


def _of_arm(spec: RolloutSpec, rows: list[Answers]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Accuracy, whole and by group, and the mix of answers."""
    if ACCURACY in spec.sizes:
        yield ACCURACY, _accuracy(rows)
    for part in spec.slices:
        yield from ((f"{part.metric}/{name}", _accuracy(own)) for name, own in _groups(part, rows))
    for metric in spec.metrics:
        if isinstance(metric, Mix):
            yield MIX, tuple(sum(row.n for row in rows if row.predicted == name) for name in metric.categories)


def _groups(part: Slice, rows: list[Answers]) -> Iterator[tuple[str, list[Answers]]]:
    """(group, its answers)."""
    for name, members in part.members.items():
        yield name, [row for row in rows if (row.user if part.by == "user" else row.truth) in members]


def _accuracy(rows: list[Answers]) -> Pair:
    """(wrong, right) of the labelled."""
    right = sum(row.n for row in rows if row.truth == row.predicted)
    return sum(row.n for row in rows if row.truth is not None) - right, right


def _confidence(
    connection: sa.Connection, where: sa.ColumnElement[bool], bounds: tuple[float, ...]
) -> dict[str, tuple[int, ...]]:
    """Answers by arm in each band of probability."""
    band = sa.case(*((events.c.probability < bound, i) for i, bound in enumerate(bounds)), else_=len(bounds))
    query = sa.select(events.c.arm, band, sa.func.count()).where(where).group_by(events.c.arm, band)
    found = {(arm, number): int(n) for arm, number, n in connection.execute(query)}
    return {arm: tuple(found.get((arm, i), 0) for i in range(len(bounds) + 1)) for arm in ("stable", "candidate")}


def _agreement(connection: sa.Connection, spec: RolloutSpec, since: int) -> Pair:
    """(different, equal) answers to the same input: a copy keeps the id of its request."""
    other = events.alias("other")
    query = (
        sa.select(
            sa.func.count(), sa.func.coalesce(sa.func.sum(sa.cast(other.c.label == events.c.label, sa.Integer)), 0)
        )
        .join_from(events, other, other.c.prediction_id == events.c.prediction_id)
        .where(
            *(events.c.arm == "candidate", events.c.release == spec.candidate, events.c.outcome == OK),
            *(other.c.arm == "stable", other.c.release == spec.stable, other.c.outcome == OK),
            *(events.c.workload == spec.workload, events.c.at >= since),
        )
    )
    pairs, equal = connection.execute(query).one()
    return int(pairs) - int(equal), int(equal)


def _asked(connection: sa.Connection, query: Query, spec: RolloutSpec, arm: Arm, since: int) -> Pair:
    """(bad, good) of a metric of the user's own; its SQL may use :arm, :release, :workload and :since."""
    release = spec.candidate if arm == "candidate" else spec.stable
    given: dict[str, Any] = {"arm": arm, "release": release, "workload": spec.workload, "since": since}
    bad, total = (_number(connection, text, given) for text in (query.bad, query.total))
    return bad, max(total - bad, 0)


def _number(connection: sa.Connection, text: str, given: dict[str, Any]) -> int:
    return int(connection.execute(sa.text(text), given).scalar_one() or 0)
