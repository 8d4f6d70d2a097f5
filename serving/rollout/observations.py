"""What comes in from outside: counts, the router's state, results of actions, commands. Time is in here and only here.

Counters are cumulative. A reading that is not newer than the last one of its source changes nothing, so duplicates
and late arrivals are harmless, and what a lost reading would have said is in the next one.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, JsonValue, model_validator

from core.config import Config

Arm = Literal["stable", "candidate", "baseline"]
CommandName = Literal["pause", "resume", "abort", "promote", "retry", "approve"]
Count = Annotated[int, Field(ge=0)]


class Weights(Config):
    """Shares of real requests, percent, together 100."""

    stable: int = Field(ge=0, le=100)
    candidate: int = Field(ge=0, le=100)
    baseline: int = Field(default=0, ge=0, le=100)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.stable + self.candidate + self.baseline != 100:
            raise ValueError(f"shares {self.stable} + {self.candidate} + {self.baseline} are not 100")
        return self


class Reading(Config):
    """Cumulative counters of one source for one arm."""

    source: str
    """Who counts: a proxy, a model server, a store; a name that survives its restart."""
    arm: Arm
    stamp: FiniteFloat
    """When the source counted, in its own time; rises, also when the wall clock is set back."""
    counts: dict[str, Annotated[tuple[Count, ...], Field(min_length=2)]]
    """By metric, or group of one (`accuracy/aspirin`): (bad, good) so far; for the mix one count per category; for
    agreement (different, equal)."""
    eligible: dict[str, Count] = Field(default={})
    """By labelled metric: answers so far that could have been labelled by now."""
    incarnation: str = ""
    """Changes when the source starts again from zero. A counter that falls is taken as a restart too."""


class RouterReport(Config):
    """What is in force at the router, not what was asked for."""

    weights: Weights | None
    """None: unknown, or its routes differ."""
    shadow: int | None = Field(default=None, ge=0, le=100)
    """Share of stable's requests mirrored, percent."""


class CandidateReport(Config):
    """How the candidate's server is."""

    ready: bool
    restarts: Count = 0
    """So far; only the difference to the first report counts."""
    reason: str = ""


class Result(Config):
    """What became of an action."""

    action: str
    """Its id."""
    ok: bool
    detail: str = ""
    payload: dict[str, JsonValue] | None = None
    """The stored stable spec, as the router wrote it."""


class Command(Config):
    """What a person wants."""

    id: str = Field(min_length=1)
    name: CommandName
    by: str = Field(min_length=1)
    """Who; written to the log."""
    step: int | None = None
    """For `approve`: the step it is meant for; one that comes late approves nothing else."""


class Observation(Config):
    """One look. What could not be seen is absent, never zero."""

    sequence: int = Field(ge=1)
    """Rises by look over the whole life of the rollout; an old one changes nothing."""
    at: FiniteFloat
    """Seconds since 1970, by the clock of the one who looks."""
    router: RouterReport | None = None
    candidate: CandidateReport | None = None
    readings: tuple[Reading, ...] = ()
    results: tuple[Result, ...] = ()
    commands: tuple[Command, ...] = ()
    failures: tuple[str, ...] = ()
    """What could not be asked, for people."""
