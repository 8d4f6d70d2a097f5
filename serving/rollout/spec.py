"""What a rollout is: the steps by which a candidate gets traffic and what must hold at each. `presets` makes the usual.

The spec is fixed when the rollout starts; its digest is in every entry of the decision log, and a different one is
refused while the rollout runs. `judging` turns its metrics into the judge of core/evidence.
"""

from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from core.config import Config
from core.errors import nearest
from serving.rollout.metrics import AGREEMENT, Compared, Metric, Slice, name_of, size_of
from serving.rollout.questions import Error, Questions, questions

Seconds = Annotated[float, Field(gt=0)]
Percent = Annotated[int, Field(ge=0, le=100)]
FULL = 100


class Step(Config):
    """One dose: a share of traffic, or of mirrored traffic, and what must be seen before the next."""

    weight: Percent = 0
    """Share of real requests that the candidate answers, percent."""
    shadow: Percent = 0
    """Share of stable's requests mirrored to the candidate, percent; its answers are thrown away."""
    bake_seconds: float = Field(default=60, ge=0)
    """Time with the weight in force and counts coming in."""
    min_requests: int = Field(default=100, ge=1)
    """Requests that the candidate must have answered in this step: no observation, no step."""
    min_labels: int = Field(default=0, ge=0)
    """Labelled answers of the candidate that must have come in during this step."""
    deadline_seconds: Seconds = 6 * 3600
    """Time for all of it; then the rollout ends at stable. Pauses and the wait for an approval do not count."""
    approval: bool = False
    """A person must approve before the next step (L06)."""

    @model_validator(mode="after")
    def _one_share(self) -> Self:
        if (self.weight > 0) == (self.shadow > 0):
            raise ValueError(
                f"weight {self.weight} and shadow {self.shadow}: a step gives the candidate one of the two; "
                "set the other to 0"
            )
        if self.deadline_seconds <= self.bake_seconds:
            raise ValueError(
                f"the deadline of {self.deadline_seconds:g} s passes before the bake of {self.bake_seconds:g} s ends"
            )
        return self


class Readiness(Config):
    """When the candidate counts as able to serve."""

    seconds: Seconds = 300
    """From its start to ready, and for its checks and its promotion (L06)."""
    unready_seconds: Seconds = 10
    """A candidate with traffic that is not ready for so long is rolled back."""
    restarts: int = Field(default=2, ge=1)
    """So many restarts during the rollout are a crash loop: rolled back at once."""


class Check(Config):
    """Requests to the candidate before its first traffic (L04): warm-up, then smoke tests with known answers."""

    name: str = Field(min_length=1)
    kind: Literal["warm_up", "smoke"]
    requests: int = Field(default=20, ge=1)


class Confirm(Config):
    """A webhook that must answer 2xx before the rollout goes on."""

    name: str = Field(min_length=1)
    url: str = Field(pattern=r"^https?://")
    before: Literal["start", "step", "promotion"]


class Inform(Config):
    """A webhook that is told about every change. One that does not answer is not waited for."""

    name: str = Field(min_length=1)
    url: str = Field(pattern=r"^https?://")


class Routing(Config):
    """How requests find their arm."""

    sticky_header: str | None = None
    """Requests with one value of this header stay in one arm; raising the weight moves them one way only."""
    tester_header: str = "x-titrate-arm"
    """A request (header or cookie) that names an arm gets it."""


class RolloutSpec(Config):
    """One complete rollout."""

    workload: str = Field(min_length=1)
    candidate: str = Field(min_length=1)
    """Digest of the release that asks to serve."""
    stable: str = Field(min_length=1)
    """Digest of the release that serves, or the name of an adopted InferenceService."""
    steps: tuple[Step, ...] = Field(min_length=1)
    metrics: tuple[Metric, ...] = Field(min_length=1)
    slices: tuple[Slice, ...] = ()
    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Chance of rolling back a candidate as good as stable, over the whole rollout and all metrics: 1 in 100."""
    alpha_promote: float = Field(default=0.05, gt=0, lt=1)
    """Chance of promoting a candidate at or beyond a margin."""
    limits_weight: float = Field(default=0.5, gt=0)
    """Part of alpha, relative to the metrics' weights, for the limits that hold where no stable arm is left."""
    slow_ms: float = Field(default=1000, gt=0)
    """`slow` counts answers slower than this, milliseconds; the presets take the ladder's p95."""
    baseline: bool = False
    """A third arm: stable's release at the candidate's share (up to half of what is left), compared in stable's place.
    Latency and caches depend on the share; equal shares make the comparison fair."""
    readiness: Readiness = Readiness()
    checks: tuple[Check, ...] = ()
    confirms: tuple[Confirm, ...] = ()
    confirm_seconds: Seconds = 3600
    """Time for the confirmations of one gate."""
    informs: tuple[Inform, ...] = ()
    routing: Routing = Routing()
    retire_stable: bool = False
    """Remove the former stable after the promotion (L03). False keeps it for an instant switch back."""
    look_seconds: Seconds = 2
    """Time between looks: a crash loop is answered within one. A gap counts as at most three of them, because nobody
    watched during the rest."""

    @model_validator(mode="after")
    def _two_releases(self) -> Self:
        if self.candidate == self.stable:
            raise ValueError(f"candidate and stable are the same release {self.stable[:12]!r}; nothing to roll out")
        return self

    @model_validator(mode="after")
    def _weights_rise(self) -> Self:
        for before, after in pairwise(self.steps):
            if after.weight < before.weight:
                raise ValueError(
                    f"weights fall from {before.weight} to {after.weight}; each step must give more than the one before"
                )
            if after.weight == before.weight > 0 or (after.weight == 0 and after.shadow <= before.shadow):
                share = after.weight or after.shadow
                raise ValueError(f"step {share} % repeats; each step must give more than the one before")
        return self

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [name_of(metric) for metric in self.metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"metric {max(names, key=names.count)!r} is there twice; give it once")
        compared = [metric.name for metric in self.metrics if isinstance(metric, Compared)]
        if not compared:
            raise ValueError("no metric compares the arms; give at least errors")
        for part in self.slices:
            if part.metric not in compared:
                raise ValueError(f"slices of unknown metric {part.metric!r}; {nearest(part.metric, compared)}")
        if len(set(self.sliced)) < len(self.sliced):
            raise ValueError(f"group {max(self.sliced, key=self.sliced.count)!r} is guarded twice; name it once")
        return self

    @model_validator(mode="after")
    def _something_to_compare(self) -> Self:
        waits = [m.name for m in self.metrics if isinstance(m, Compared) and not m.guard]
        if self.steps[0].weight == FULL and waits:
            raise ValueError(
                f"the first step gives everything, so {waits[0]!r} has no stable arm to be compared with; "
                "put a shadow step before it, or make the metric a guard"
            )
        return self

    @model_validator(mode="after")
    def _labels_exist(self) -> Self:
        labelled = any(isinstance(m, Compared) and m.coverage is not None for m in self.metrics)
        if not labelled and any(step.min_labels for step in self.steps):
            raise ValueError("min_labels without a labelled metric can never be reached; add accuracy")
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A changed spec, validated; pydantic's own copy would keep the digest of the original."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate(fields | dict(update or {}))

    @cached_property
    def questions(self) -> Questions:
        """What is asked of core/evidence."""
        error = Error(self.alpha, self.alpha_promote, self.limits_weight)
        return questions(self.metrics, self.slices, error, alone=self.promotes)

    @cached_property
    def limited(self) -> frozenset[str]:
        """Metrics with a fixed limit."""
        limits = self.questions.limits
        return frozenset(limit.name for limit in limits.limits) if limits else frozenset()

    @cached_property
    def labelled(self) -> dict[str, float]:
        """The coverage that metrics on labels demand."""
        return {m.name: m.coverage for m in self.metrics if isinstance(m, Compared) and m.coverage is not None}

    @cached_property
    def digest(self) -> str:
        """SHA-256 that names this spec."""
        return self.content_digest()

    @property
    def sliced(self) -> tuple[str, ...]:
        """Names of the guarded groups, `metric/group`."""
        return tuple(name for part in self.slices for name in part.names)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """How many counts a reading of each metric has, by the name it carries."""
        named = {name_of(metric): size_of(metric) for metric in self.metrics}
        return named | dict.fromkeys(self.sliced, 2)

    @property
    def one_armed(self) -> frozenset[str]:
        """Metrics that only the candidate reports."""
        return frozenset({AGREEMENT})

    @property
    def promotes(self) -> bool:
        """Whether the last step gives everything; else the rollout ends at stable, as an experiment."""
        return self.steps[-1].weight == FULL
