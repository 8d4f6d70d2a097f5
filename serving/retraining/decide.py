"""When a workload is trained again: a pure decision, so that storms can be ruled out by tests (X06).

`should_retrain(spec, state, observation)` has no clock, no file and no client. Who observes and who starts the pipeline
is in `titrate/loop/`. A trigger starts nothing by itself: it stays pending until there is enough new data, no job and
no rollout is open, the cooldown is over and the week's budget is not spent; `Decision.reason` says what it waits for.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, NamedTuple

from pydantic import AwareDatetime, Field

from core.config import Config

WEEK = timedelta(days=7)


class Trigger(StrEnum):
    """Why a workload is to be trained again, the most urgent first."""

    HAND = "by hand"
    ACCURACY = "accuracy"
    DRIFT = "drift"
    DATA = "new data"
    WEEKLY = "weekly"


class RetrainingSpec(Config):
    """What triggers a training, and what holds it back."""

    accuracy: Annotated[float, Field(ge=0, le=1)]
    """Labelled accuracy of the window below which it is triggered (B03)."""
    drift: Annotated[float, Field(ge=0, le=1)]
    """Drift score above which it is triggered (M07, B03)."""
    min_labels: Annotated[int, Field(ge=1)] = 100
    """Fewer labelled answers in the window say nothing about accuracy (M06)."""
    look_hours: Annotated[float, Field(gt=0)] = 6.0
    """Between two looks (B03); what is asked for by hand does not wait for one."""
    min_new: Annotated[int, Field(ge=0)] = 1_000
    """Fewer new samples start no training, whatever triggered it, except by hand (B02)."""
    enough_new: Annotated[int, Field(ge=1)] = 5_000
    """So many new samples trigger a training by themselves (B04)."""
    weekday: Annotated[int, Field(ge=0, le=6)] | None = 6
    """0 is Monday; with `hour`, the weekly training (B02: Sunday 02:00). None: there is none."""
    hour: Annotated[int, Field(ge=0, le=23)] = 2
    """UTC."""
    cooldown_hours: Annotated[float, Field(ge=0)] = 24.0
    """After the end of a training, before the next; doubled with each failure in a row (B05)."""
    jobs_per_week: Annotated[int, Field(ge=1)] = 3
    """Budget: so many trainings begin in any seven days, those by hand included."""
    within_days: Annotated[float, Field(gt=0)] = 7.0
    """From a trigger to a serving release (B07); what takes longer is an alert."""


class RetrainingState(Config):
    """What is kept from look to look."""

    looked_at: AwareDatetime | None = None
    weekly_at: AwareDatetime | None = None
    """The weekly hour that was last taken up."""
    pending: Trigger | None = None
    pending_since: AwareDatetime | None = None
    """When the trigger came whose release does not serve yet."""
    why: str = ""
    starts: tuple[AwareDatetime, ...] = ()
    """Of the last seven days."""
    ended_at: AwareDatetime | None = None
    failures: int = 0
    """In a row."""


class Seen(Config):
    """What a look finds."""

    now: AwareDatetime
    new_samples: int
    """Of the data source, beyond those of the last training that succeeded."""
    wrong: int = 0
    right: int = 0
    """Labelled answers of the window."""
    score: float | None = None
    """Of drift; None with too few events."""
    alarm: str | None = None
    """What the open drift alarm says."""
    busy: str | None = None
    """What must end first: a training or a rollout."""
    asked: str | None = None
    """Why somebody wants a training now."""


class Decision(NamedTuple):
    """Whether to begin now, why or why not, and the state to keep."""

    start: Trigger | None
    reason: str
    state: RetrainingState


def should_retrain(spec: RetrainingSpec, state: RetrainingState, seen: Seen) -> Decision:
    """One look; between two looks only a request by hand changes anything."""
    if not seen.asked and state.looked_at and seen.now < state.looked_at + timedelta(hours=spec.look_hours):
        return Decision(None, _told(state), state)
    state = _triggered(spec, state.model_copy(update={"looked_at": seen.now}), seen)
    recent = tuple(start for start in state.starts if start > seen.now - WEEK)
    state = state.model_copy(update={"starts": recent})
    if state.pending is None:
        return Decision(None, "nothing asks for a training", state)
    if held := _held_back(spec, state, seen):
        return Decision(None, f"{_told(state)}; waits: {held}", state)
    return Decision(state.pending, state.why, state.model_copy(update={"starts": (*recent, seen.now)}))


def ended(state: RetrainingState, now: datetime, succeeded: bool) -> RetrainingState:
    """State after a training and its rollout ended; a failure leaves the trigger pending."""
    if not succeeded:
        return state.model_copy(update={"ended_at": now, "failures": state.failures + 1})
    done = {"pending": None, "pending_since": None, "why": "", "failures": 0}
    return state.model_copy(update={"ended_at": now, **done})


def _triggered(spec: RetrainingSpec, state: RetrainingState, seen: Seen) -> RetrainingState:
    """The most urgent trigger of those that are there and the one that was pending; the clock of the oldest goes on."""
    weekly = _weekly(spec, seen.now)
    found = _found(spec, state, seen, weekly)
    update: dict[str, object] = {"weekly_at": weekly} if weekly and state.weekly_at is None else {}
    if not found:
        return state.model_copy(update=update)
    trigger, why = found[0]
    if trigger is Trigger.WEEKLY:
        update["weekly_at"] = weekly
    order = list(Trigger)
    if state.pending is None or order.index(trigger) <= order.index(state.pending):
        update |= {"pending": trigger, "why": why, "pending_since": state.pending_since or seen.now}
    return state.model_copy(update=update)


def _found(
    spec: RetrainingSpec, state: RetrainingState, seen: Seen, weekly: datetime | None
) -> list[tuple[Trigger, str]]:
    """What asks for a training now, the most urgent first."""
    found = [(Trigger.HAND, seen.asked)] if seen.asked else []
    labelled = seen.wrong + seen.right
    if labelled >= spec.min_labels and seen.right / labelled < spec.accuracy:
        found.append(
            (Trigger.ACCURACY, f"accuracy {seen.right / labelled:.3f} of {labelled} labels < {spec.accuracy:g}")
        )
    if seen.alarm:
        found.append((Trigger.DRIFT, seen.alarm))
    elif seen.score is not None and seen.score > spec.drift:
        found.append((Trigger.DRIFT, f"drift score {seen.score:.2f} > {spec.drift:g}"))
    if seen.new_samples >= spec.enough_new:
        found.append((Trigger.DATA, f"{seen.new_samples} new samples"))
    if weekly and state.weekly_at and weekly > state.weekly_at and seen.new_samples >= spec.min_new:
        found.append((Trigger.WEEKLY, f"weekly, {seen.new_samples} new samples"))
    return found


def _weekly(spec: RetrainingSpec, now: datetime) -> datetime | None:
    """The last weekly hour before now."""
    if spec.weekday is None:
        return None
    today = now.astimezone(UTC).replace(hour=spec.hour, minute=0, second=0, microsecond=0)
    back = (today.weekday() - spec.weekday) % 7
    last = today - timedelta(days=back)
    return last if last <= now else last - WEEK


def _held_back(spec: RetrainingSpec, state: RetrainingState, seen: Seen) -> str | None:
    """What a pending trigger waits for."""
    if seen.busy:
        return seen.busy
    if len(state.starts) >= spec.jobs_per_week:
        return f"{len(state.starts)} trainings began in seven days, the budget is {spec.jobs_per_week}"
    if state.pending is Trigger.HAND:
        return None
    if seen.new_samples < spec.min_new:
        return f"{seen.new_samples} of {spec.min_new} new samples are there"
    pause = timedelta(hours=spec.cooldown_hours * 2**state.failures)
    if state.ended_at and seen.now < state.ended_at + pause:
        failed = f" and {state.failures} failed" if state.failures else ""
        last, following = (f"{at:%F %H:%M}" for at in (state.ended_at, state.ended_at + pause))
        return f"the last training ended at {last}{failed}; the next may begin at {following}"
    return None


def _told(state: RetrainingState) -> str:
    if state.pending is None:
        return "nothing asks for a training"
    return f"{state.pending.value} since {state.pending_since:%F %H:%M}: {state.why}"
