"""Everything a rollout knows, complete and serialisable: what is not in here is not known after a restart.

Its size depends on the spec and the number of sources, never on the length of the rollout.
"""

from enum import StrEnum
from typing import Literal, NamedTuple

from pydantic import Field, JsonValue

from core.config import Config
from core.evidence.judge import JudgeState
from core.evidence.one_sample import MonitorState
from serving.rollout.tally import Coverage, Totals


class Phase(StrEnum):
    """Where a rollout is. The last three are ends."""

    CONFIRMING = "confirming"
    PREPARING = "preparing"
    CHECKING = "checking"
    STEPPING = "stepping"
    APPROVAL = "approval"
    PROMOTING = "promoting"
    RESTORING = "restoring"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    COMPLETED = "completed"


Gate = Literal["start", "step", "promotion"]
ENDS = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK, Phase.COMPLETED})
REMEMBERED = 64
"""Command ids kept to ignore a repeated one, and notices kept while nobody takes them."""


class Cursor(NamedTuple):
    """Where a source's counter stood when it was last counted."""

    stamp: float
    incarnation: str
    counts: tuple[int, ...]
    eligible: int


class Notice(NamedTuple):
    """Something to be told, until it was."""

    id: str
    event: str
    text: str


class RolloutState(Config):
    """One rollout after a look."""

    id: str
    spec_digest: str
    phase: Phase = Phase.CONFIRMING
    gate: Gate = "start"
    """While confirming: what comes after."""
    step: int = -1
    weight: int = 0
    """Intended for the candidate, percent of real requests."""
    shadow: int = 0
    """Intended, percent of stable's requests mirrored."""
    attempt: int = 1
    paused: bool = False
    approved: bool = False
    forced_by: str = ""
    """Who promoted by hand."""
    reason: str = ""
    """Why the rollout ended or ends."""
    ending: Phase = Phase.ROLLED_BACK
    """While restoring: the end it goes to."""

    seen: int = 0
    """Sequence of the last observation."""
    at: float | None = None
    """Its time, seconds since 1970."""
    clock: float = 0.0
    """Watched seconds: jumps of the wall clock and unwatched gaps are left out. All times below are on it."""
    entered: float = 0.0
    baked: float = 0.0
    in_force: bool = False
    """The intended shares were in force at the last look."""
    alerted: bool = False
    """The alert that the world has changed was given."""
    unready_since: float | None = None
    restarts: int | None = None
    """The candidate's restarts when it was first seen."""

    stable_spec: dict[str, JsonValue] | None = None
    """The router's complete previous state, opaque."""
    started: bool = False
    promotion: Literal["", "begun", "done"] = ""
    restored: bool = False
    undone: bool = False
    stopped: bool = False
    confirmed: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()
    told: int = 0
    """Notices made so far; numbers them."""

    cursors: dict[str, Cursor] = Field(default={})
    evidence: JudgeState
    limits: MonitorState | None
    """Evidence against the fixed limits: agreement, and the metrics where no stable arm is left."""
    world: MonitorState | None
    """Evidence that stable's inputs have drifted: then so have the candidate's, and the world has changed."""
    totals: dict[str, Totals] = Field(default={})
    step_counts: dict[str, int] = Field(default={})
    """The candidate's answers in this step, by metric."""
    coverage: dict[str, Coverage] = Field(default={})

    @property
    def ended(self) -> bool:
        """Whether the rollout has ended; notices may still be on their way."""
        return self.phase in ENDS
