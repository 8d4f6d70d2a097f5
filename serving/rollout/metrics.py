"""What a candidate is judged by: metrics as counts per arm, their margins, and the groups that are guarded one by one.

Every limit that the workload's ladder (core/slo.py) settles is derived here and nowhere else: `of_slo`.
"""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from core.config import Config
from core.errors import nearest
from core.slo import Slo

ERRORS, SLOW, ACCURACY, AGREEMENT, DRIFT = "errors", "slow", "accuracy", "agreement", "drift"
MIX, CONFIDENCE = "mix", "confidence"
MIXES = (MIX, CONFIDENCE)
"""Counts by category, not of bad and good."""
BUILT_IN = (ERRORS, SLOW, ACCURACY)

OUT_OF_DISTRIBUTION = 0.05
"""Share of reference images beyond the reference's 95 % quantile, by its definition."""


def _not_zero(value: object) -> object:
    if value == 0:
        raise ValueError(
            "a margin of 0 can never be shown with counts; say how much worse you tolerate, for example 0.01"
        )
    return value


Margin = Annotated[float, BeforeValidator(_not_zero), Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Weight = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]


class Query(Config):
    """A user's own metric: two queries of the same kind that give cumulative counts by arm."""

    language: Literal["promql", "sql"]
    bad: str = Field(min_length=1)
    total: str = Field(min_length=1)


class Compared(Config):
    """A share of bad answers that the candidate may exceed stable's by at most `margin`."""

    kind: Literal["compared"] = "compared"
    name: Name
    """errors, slow, accuracy (bad: a wrong answer), or a name of your own with a `query`."""
    margin: Margin
    """Tolerated excess of the bad share over stable's: 0.01 is one more bad answer in a hundred."""
    limit: Rate | None = None
    """Highest tolerated bad share where no stable arm is left to compare with (weight 100)."""
    weight: Weight = 1.0
    """Part of alpha, relative to the other metrics."""
    guard: bool = False
    """True: harm rolls back, but promotion does not wait until the metric is shown to be good."""
    coverage: Rate | None = None
    """Labels only: the labelled share of one arm may be as small as this part of the other's; else inconclusive."""
    query: Query | None = None

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.name not in BUILT_IN and self.query is None:
            raise ValueError(
                f"unknown metric {self.name!r}; {nearest(self.name, BUILT_IN)}; a metric of your own needs a query"
            )
        return self


class Agreement(Config):
    """Answers of the candidate that differ from stable's on the same mirrored input."""

    kind: Literal["agreement"] = "agreement"
    limit: Rate
    """Highest tolerated share of different answers."""
    weight: Weight = 1.0


class Mix(Config):
    """The mix of predicted classes, compared between the arms."""

    kind: Literal["mix"] = "mix"
    categories: tuple[str, ...] = Field(min_length=2)
    """Class names, in the order of the counts."""
    margin: Margin
    """Tolerated total variation between the arms' mixes."""
    weight: Weight = 1.0


class Confidence(Config):
    """How sure the answers are, compared between the arms as a mix of bands of probability.

    In no preset: a better candidate is surer, too. For one that must answer as stable does: another engine, int8.
    """

    kind: Literal["confidence"] = "confidence"
    bounds: tuple[Rate, ...] = Field(default=(0.5, 0.7, 0.9, 0.97), min_length=1)
    """Where one band ends and the next begins; rising."""
    margin: Margin
    """Tolerated total variation between the arms' mixes of bands."""
    weight: Weight = 1.0

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for low, high in pairwise(self.bounds):
            if low >= high:
                raise ValueError(f"bounds {low:g}, {high:g} do not rise; give each band's upper end once, in order")
        return self


class Drift(Config):
    """Inputs beyond the reference's 95 % quantile: in the candidate's arm alone a regression, in both a new world."""

    kind: Literal["drift"] = "drift"
    margin: Margin
    limit: Rate
    """Share of such inputs in both arms above which the world has changed: an alert, no rollback."""
    weight: Weight = 1.0


AnyMetric = Compared | Agreement | Mix | Confidence | Drift
Metric = Annotated[AnyMetric, Field(discriminator="kind")]
Text = Annotated[str, Field(min_length=1)]


class Group(Config):
    """Several classes or users as one group: look-alike pills, the cameras of a ward."""

    name: Text
    members: tuple[Text, ...] = Field(min_length=1)


class Slice(Config):
    """A compared metric guarded group by group, so that harm to a few is not hidden by the average."""

    metric: Name
    by: Literal["class", "user"] = "class"
    """class: the true one, by its label. user: whose key asked; a ward or a camera with a key of its own."""
    groups: tuple[Text, ...] = ()
    """Classes or users that are each a group."""
    named: tuple[Group, ...] = ()
    """Groups of several."""
    margin: Margin
    weight: Weight = 1.0
    """Part of alpha for all groups together; each gets an equal share."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.members:
            raise ValueError(f"slices of {self.metric!r} without a group; give groups, or named ones")
        return self

    @property
    def members(self) -> dict[str, tuple[str, ...]]:
        """Every group's name and who is in it."""
        return {name: (name,) for name in self.groups} | {group.name: group.members for group in self.named}

    @property
    def names(self) -> tuple[str, ...]:
        """What verdicts call the groups, `metric/group`."""
        return tuple(f"{self.metric}/{name}" for name in (*self.groups, *(group.name for group in self.named)))


def size_of(metric: AnyMetric) -> int:
    """How many counts a reading of the metric has."""
    match metric:
        case Mix():
            return len(metric.categories)
        case Confidence():
            return len(metric.bounds) + 1
        case _:
            return 2


def name_of(metric: AnyMetric) -> str:
    """The name that readings and verdicts carry."""
    return metric.name if isinstance(metric, Compared) else metric.kind


def of_slo(slo: Slo, classes: tuple[str, ...] = ()) -> tuple[AnyMetric, ...]:
    """The standard metrics; with `classes` the prediction mix too.

    errors    margin 1 %; alone at most the unavailability that the ladder allows plus that margin.
    slow      slower than p95_ms; at most 5 % may be, by what p95 means. Margin 1 %: the share that p99 allows.
    accuracy  margin gate - retrain: a stable release exactly at the gate may be followed by one that starts no
              retraining. Alone at most 1 - alert may be wrong (R05).
    agreement two releases that both keep the gate differ on at most 2 (1 - gate): each is wrong on at most 1 - gate.
    drift     5 % of the reference's own images are beyond its 95 % quantile; twice that is a new world.
    """
    slack = 0.01
    metrics: tuple[AnyMetric, ...] = (
        Compared(name=ERRORS, margin=slack, limit=1 - slo.availability + slack),
        Compared(name=SLOW, margin=0.01, limit=0.05),
        Compared(
            name=ACCURACY,
            margin=round(slo.accuracy.gate - slo.accuracy.retrain, 6),
            limit=round(1 - slo.accuracy.alert, 6),
            coverage=0.8,
        ),
        Agreement(limit=round(2 * (1 - slo.accuracy.gate), 6)),
        Drift(margin=OUT_OF_DISTRIBUTION, limit=2 * OUT_OF_DISTRIBUTION),
    )
    return (*metrics, Mix(categories=classes, margin=0.1)) if len(classes) > 1 else metrics
