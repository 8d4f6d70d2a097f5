"""What the reconciler needs from outside. Every method may be called again after a crash and must then be harmless.

Errors: TemporaryError when trying again may help (the action stays wanted), UserError or PermanentError when it cannot
(the rollout goes back to stable). A method must return or raise within seconds; the rollback waits behind it.
"""

from typing import Protocol

from pydantic import JsonValue

from serving.rollout.observations import CandidateReport, Reading, RouterReport, Weights
from serving.rollout.spec import Check, Confirm, RolloutSpec


class Router(Protocol):
    """Who splits the traffic: Envoy, HTTPRoute + GRPCRoute, Knative's canaryTrafficPercent, KServe's spec.canary."""

    def check(self, spec: RolloutSpec) -> None:
        """Raise UserError, before anything is changed, when this router cannot do what the spec asks: a router that
        cannot mirror refuses a shadow step, KServe 0.20 refuses `spec.canary`, two backends refuse a baseline."""

    def store_stable(self) -> dict[str, JsonValue]:
        """The complete routing as it is, for `restore`. Changes nothing."""

    def apply(self, weights: Weights) -> None:
        """Ask for these shares on every route. Those in force are in `observed_weight`."""

    def shadow(self, percent: int) -> None:
        """Ask for this share of stable's requests to be mirrored; 0 on a router that cannot is done already."""

    def observed_weight(self) -> RouterReport:
        """The shares in force at the data plane; `weights` None where unknown or where its routes differ."""

    def promote(self, release: str) -> None:
        """Make the candidate the stable arm with all traffic: afterwards `observed_weight` says stable 100. The former
        stable keeps running without traffic."""

    def restore(self, stored: dict[str, JsonValue]) -> None:
        """Put back what `store_stable` returned, whatever was done since: also half-way through `promote`."""


class Servers(Protocol):
    """Who runs the candidate: the laptop's stack, an InferenceService."""

    def start(self, release: str) -> None:
        """Verify the release and start it, without waiting until it is ready."""

    def report(self, release: str) -> CandidateReport:
        """Whether it is ready, and its restarts so far."""

    def stop(self, release: str) -> None:
        """Stop the candidate; done already where it does not run."""

    def retire(self, release: str) -> None:
        """Remove the former stable."""


class Observer(Protocol):
    """Who counts."""

    def readings(self, spec: RolloutSpec) -> tuple[Reading, ...]:
        """Cumulative counters of every metric and group of the spec, by arm, zeros included (a counter that appears
        late starts from where it is, and what it had counted is lost). Never rates, quantiles or averages."""


class Effects(Protocol):
    """What happens outside routing; handed in by titrate/."""

    def check(self, check: Check, spec: RolloutSpec) -> str:
        """Run a warm-up or smoke check against the candidate; what was found. Raises PermanentError when it fails."""

    def confirm(self, hook: Confirm, spec: RolloutSpec) -> bool:
        """Whether the webhook said yes."""

    def promoted(self, spec: RolloutSpec) -> None:
        """Move the registry's aliases to the candidate and write the audit entry."""

    def undo_promotion(self, spec: RolloutSpec) -> None:
        """Move the registry's aliases back to the former stable (R04)."""

    def notify(self, event: str, text: str, spec: RolloutSpec) -> None:
        """Tell people, and the spec's `informs`. One that does not answer within seconds is not waited for: every
        error ends the notice, so raise no TemporaryError."""
