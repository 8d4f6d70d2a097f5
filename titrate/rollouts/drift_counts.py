"""Drift by arm: answered inputs beyond the 95 % quantile of the drift reference of the release that answered them.

Each arm is measured by its own reference, because embeddings of two networks cannot be compared: by definition 5 % of
inputs like the reference are beyond it. What is far away in the candidate's arm alone is a regression of its network;
in both arms the world has changed, and the engine gives an alert instead (serving/rollout/judging.py).
"""

import logging
import secrets
from typing import NamedTuple

import sqlalchemy as sa

from core.errors import PermanentError, TemporaryError
from core.events import OK
from core.home import Home
from serving.drift.outliers import Outliers
from serving.drift.sample import Sample, Values, of_release, of_stored
from serving.feedback.schema import events
from serving.rollout.metrics import DRIFT, OUT_OF_DISTRIBUTION
from serving.rollout.observations import Arm, Reading
from serving.rollout.spec import RolloutSpec
from titrate import kept_events
from titrate.stack.releases import fetched

logger = logging.getLogger(__name__)
AT_MOST = 500
"""Events of one arm that one look measures, the newest: which are left out does not depend on what they are."""


class Yardstick(NamedTuple):
    """A release's reference, fitted."""

    like: Sample
    outliers: Outliers


class DriftCounts:
    """Of one rollout. Counts begin when the process does: the readings' incarnation says so."""

    def __init__(self, home: Home, engine: sa.Engine) -> None:
        self._home, self._engine = home, engine
        self._fitted: dict[str, Yardstick | None] = {}
        self._counts: dict[Arm, tuple[int, int]] = {}
        self._seen: int | None = None
        self._incarnation = secrets.token_hex(4)

    def readings(self, spec: RolloutSpec, stamp: float) -> list[Reading]:
        """(beyond, within) of both arms; none where one of the releases has no reference. Raises TemporaryError."""
        if DRIFT not in spec.sizes or not kept_events.file(self._home).exists():
            return []
        arms: tuple[tuple[Arm, str], ...] = (("stable", spec.stable), ("candidate", spec.candidate))
        yardsticks = {arm: self._yardstick(release) for arm, release in arms}
        try:
            with self._engine.connect() as connection:
                newest = connection.execute(sa.select(sa.func.max(events.c.seq))).scalar_one() or 0
                since, self._seen = self._seen if self._seen is not None else newest, newest
                for arm, release in arms:
                    if (yardstick := yardsticks[arm]) is not None:
                        where = (events.c.workload == spec.workload, events.c.arm == arm, events.c.release == release)
                        span = (events.c.seq > since, events.c.seq <= newest, events.c.outcome == OK)
                        self._add(arm, _values(connection, sa.and_(*where, *span), yardstick.like), yardstick.outliers)
        except sa.exc.DBAPIError as error:
            raise TemporaryError(f"the inputs cannot be measured: {error.orig}") from error
        if None in yardsticks.values():
            return []
        return [
            Reading(
                source="inputs",
                arm=arm,
                stamp=stamp,
                counts={DRIFT: self._counts.get(arm, (0, 0))},
                incarnation=self._incarnation,
            )
            for arm, _ in arms
        ]

    def _add(self, arm: Arm, values: Values, outliers: Outliers) -> None:
        beyond = int((outliers.p_values(values) <= OUT_OF_DISTRIBUTION).sum()) if len(values) else 0
        before = self._counts.get(arm, (0, 0))
        self._counts[arm] = (before[0] + beyond, before[1] + len(values) - beyond)

    def _yardstick(self, release: str) -> Yardstick | None:
        """The fitted reference; None, told once, for a release without one."""
        if release not in self._fitted:
            try:
                like = of_release(fetched(self._home, release), release)
                self._fitted[release] = Yardstick(like, Outliers.fit(like.values))
            except (PermanentError, ValueError) as error:
                facts = {"release": release, "error": str(error)}
                logger.warning("drift of the arms is not counted", extra={"facts": facts})
                self._fitted[release] = None
        return self._fitted[release]


def _values(connection: sa.Connection, where: sa.ColumnElement[bool], like: Sample) -> Values:
    """float64 [n, k] with the columns of the reference; NaN where an event lacks the number."""
    query = sa.select(events.c.embedding, events.c.image).where(where).order_by(events.c.seq.desc()).limit(AT_MOST)
    return of_stored(((row.embedding, row.image, None) for row in connection.execute(query)), like).values
