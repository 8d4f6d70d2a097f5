"""What clients were answered and what was found to be true, from the events of a home: read alone, never written."""

from typing import Any, NamedTuple

import sqlalchemy as sa

from core.errors import TemporaryError, UserError
from core.events import OK
from core.home import Home
from serving.drift.sample import Sample, of_stored
from serving.feedback.schema import events, labels
from titrate import kept_events

AT_MOST = 5_000
"""Newest events of a window that are read; which are left out does not depend on what they are."""
NEVER = 2**62
_JOINED = events.outerjoin(labels, labels.c.prediction_id == events.c.prediction_id)


class Window(NamedTuple):
    """Events in the order in which they were stored."""

    sample: Sample
    at: tuple[int, ...]
    """When each was answered, microseconds since 1970."""
    last: int
    """`seq` of the newest; that of the former window when there is none."""


class Answers(NamedTuple):
    """Counts of answers of one release."""

    wrong: int
    right: int
    all: int
    """With a label or without."""


class AnsweredEvents:
    """The events of one home that clients saw: not a candidate's."""

    def __init__(self, home: Home) -> None:
        self._file, self._engine = kept_events.file(home), kept_events.reader(home)

    def require(self) -> None:
        """Raise UserError where nobody keeps events."""
        if not self._file.exists():
            raise UserError("there are no events; `titrate stack up` keeps those of every prediction")

    def newest(self) -> tuple[int, int]:
        """(`seq` of the newest event, when the newest event or label came in microseconds); zeros without any.

        Raises TemporaryError.
        """
        if not self._file.exists():
            return 0, 0
        of_events = sa.select(sa.func.max(events.c.seq), sa.func.max(events.c.received))
        [(seq, event)] = self._rows(of_events)
        [(label,)] = self._rows(sa.select(sa.func.max(labels.c.received)))
        return int(seq or 0), max(int(event or 0), int(label or 0))

    def window(self, workload: str, like: Sample, *, after: int = 0, since: int = 0, until: int = NEVER) -> Window:
        """Answers of the release of `like` with seq > `after` and `since` <= at < `until` (microseconds since 1970).

        Raises TemporaryError when the database does not answer.
        """
        of = events.c
        newest_first = (
            sa.select(of.seq, of.at, of.embedding, of.image, of.label)
            .where(_seen(workload, like.release), of.seq > after, of.at >= since, of.at < until)
            .order_by(of.seq.desc())
            .limit(AT_MOST)
        )
        rows = self._rows(newest_first)[::-1] if self._file.exists() else []
        sample = of_stored(((row.embedding, row.image, row.label) for row in rows), like)
        return Window(sample, tuple(row.at for row in rows), rows[-1].seq if rows else after)

    def labelled(self, workload: str, release: str, after: int) -> tuple[Answers, int]:
        """Labels that came after `after` (microseconds since 1970), and when the newest of them came.

        The later of event and label counts. A label that waited for a lock behind one that was counted is left out.
        """
        both = sa.case((labels.c.received > events.c.received, labels.c.received), else_=events.c.received)
        where = sa.and_(_seen(workload, release), labels.c.label.is_not(None), both > after)
        newest = sa.select(sa.func.max(both)).select_from(_JOINED).where(where)
        upto = int((self._rows(newest)[0][0] if self._file.exists() else None) or after)
        return self._judged(sa.and_(where, both <= upto)), upto

    def answers(self, workload: str, release: str, since: int, until: int = NEVER) -> Answers:
        """Counts of the answers with `since` <= at < `until` (microseconds since 1970)."""
        return self._judged(sa.and_(_seen(workload, release), events.c.at >= since, events.c.at < until))

    def _judged(self, where: sa.ColumnElement[bool]) -> Answers:
        if not self._file.exists():
            return Answers(0, 0, 0)
        right = sa.func.sum(sa.case((labels.c.label == events.c.label, 1), else_=0))
        query = sa.select(right, sa.func.count(labels.c.label), sa.func.count()).select_from(_JOINED).where(where)
        [(right_, labelled, all_)] = self._rows(query)
        return Answers(int(labelled) - int(right_ or 0), int(right_ or 0), int(all_))

    def _rows(self, query: sa.Select[*tuple[Any, ...]]) -> list[sa.Row[*tuple[Any, ...]]]:
        try:
            with self._engine.connect() as connection:
                return list(connection.execute(query).all())
        except sa.exc.DBAPIError as error:
            raise TemporaryError(f"the events cannot be read: {error.orig}") from error


def _seen(workload: str, release: str) -> sa.ColumnElement[bool]:
    of = events.c
    return sa.and_(of.workload == workload, of.release == release, of.outcome == OK, of.arm != "candidate")
