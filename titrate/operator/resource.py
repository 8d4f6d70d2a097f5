"""What a `ModelRollout` asks for: the fields of a rollout's spec, where they apply, or a preset that fills them.

Field names are camelCase on the cluster and snake_case here; nothing else differs. `crd` makes the schema from these
classes, so that the API server refuses what they would.
"""

import re
from typing import Any, Literal

from pydantic import Field, ValidationError

from core.config import Config, explain
from core.errors import UserError
from core.slo import Slo
from serving.rollout.presets import preset
from serving.rollout.spec import RolloutSpec

Json = dict[str, Any]
GROUP, VERSION, PLURAL = "titrate.dev", "v1alpha1", "modelrollouts"
COMMAND, COMMAND_BY = f"{GROUP}/command", f"{GROUP}/by"
"""Annotations by which a person commands a rollout."""
PresetName = Literal["canary", "blue_green", "ten_fifty_hundred", "shadow_only"]


class Target(Config):
    """Whose traffic is moved. What is left out is found by the workload's name."""

    router: Literal["gateway_api", "knative", "kserve_canary"] = "gateway_api"
    """gateway_api: two InferenceServices behind one HTTPRoute and GRPCRoute. knative: `canaryTrafficPercent`.
    kserve_canary: KServe's own `spec.canary`, which splits nothing before KServe 0.21."""
    http_route: str | None = Field(default=None, min_length=1)
    """The HTTPRoute that leads to the stable InferenceService; default: the workload's name."""
    grpc_route: str | None = Field(default=None)
    """The GRPCRoute beside it; default: of the same name, where there is one. Empty: none."""
    inference_service: str | None = Field(default=None, min_length=1)
    """knative and kserve_canary: whose traffic is moved; default: the workload's name."""
    storage_uri: str | None = Field(default=None, pattern=r"\{release\}")
    """Where releases lie, with `{release}` for the digest; default: where stable's lies."""
    stats: str | None = Field(default=None, pattern=r"^https?://")
    """Address of a Prometheus that scrapes the gateway's Envoy; default: the operator scrapes it."""


class Extra(Config):
    """The fields of a ModelRollout beside those of a rollout's spec."""

    target: Target = Target()
    preset: PresetName | None = None
    """Fills steps, metrics, checks and `slowMs` from the workload's ladder; what is written beside it wins."""
    labels: bool = False
    """With a preset: whether labels come in time, so that promotion waits for accuracy too."""


class Wanted(Config):
    """A ModelRollout's spec, read."""

    extra: Extra
    fields: Json
    """Of the rollout's spec, as they are written."""

    @property
    def workload(self) -> str:
        """Whose rollout it is."""
        return str(self.fields["workload"])

    @property
    def route(self) -> str:
        """What carries the weights: two rollouts must not share it."""
        target = self.extra.target
        kind, own = ("route", target.http_route) if target.router == "gateway_api" else ("", target.inference_service)
        return f"{kind}/{own or self.workload}"

    def rollout(self, stable: str) -> RolloutSpec:
        """The complete spec against the release `stable`. Raises UserError."""
        fields: Json = {"stable": stable, **self.fields}
        if self.extra.preset:
            fields = self._preset(fields) | fields
        try:
            return RolloutSpec.model_validate(fields)
        except ValidationError as error:
            raise UserError(f"spec: {explain(error, RolloutSpec.model_fields)}") from error

    def _preset(self, fields: Json) -> Json:
        made = preset(
            str(self.extra.preset),
            workload=fields["workload"],
            stable=fields["stable"],
            candidate=fields["candidate"],
            slo=_slo(fields["workload"]),
            labels=self.extra.labels,
            pairs=False,
        )
        return made.model_dump(mode="json")


def read(spec: Json) -> Wanted:
    """The spec of a ModelRollout, its two parts apart. Raises UserError."""
    fields = renamed(spec, snake)
    own = {name: fields.pop(name) for name in Extra.model_fields if name in fields}
    missing = [name for name in ("workload", "candidate") if not fields.get(name)]
    if missing:
        raise UserError(f"spec.{missing[0]} is missing")
    try:
        return Wanted(extra=Extra.model_validate(own), fields=fields)
    except ValidationError as error:
        raise UserError(f"spec: {explain(error, Extra.model_fields)}") from error


def snake(name: str) -> str:
    """httpRoute -> http_route."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: f"_{found[1].lower()}", name)


def camel(name: str) -> str:
    """http_route -> httpRoute."""
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def renamed(value: Any, rule: Any) -> Any:
    """A JSON value with all keys renamed."""
    if isinstance(value, dict):
        return {rule(key): renamed(item, rule) for key, item in value.items()}
    return [renamed(item, rule) for item in value] if isinstance(value, list) else value


def _slo(workload: str) -> Slo:
    try:
        return Slo.load(workload)
    except FileNotFoundError as error:
        raise UserError(
            f"spec.preset: no ladder of limits is known for workload {workload!r}; give steps and metrics instead"
        ) from error
