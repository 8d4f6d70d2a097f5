"""Every look with its inputs and what came of it, hash-chained (core/audit.py), and the proof that it came of them.

The log is written before anything is done, and the state follows from it: `replay` from the first entry gives both.
"""

import json
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from core import audit
from core.config import canonical_json
from core.errors import PermanentError
from serving.rollout.engine import Decision, begin, decide
from serving.rollout.observations import Observation
from serving.rollout.spec import RolloutSpec
from serving.rollout.state import RolloutState
from serving.rollout.weights import shares

STARTED, LOOK = "rollout_started", "rollout_look"
CLOSE = 1e-9
"""Relative difference of evidence between machines (another libm) that is not a difference."""


class Replayed(NamedTuple):
    """One look, computed again."""

    at: str
    """When it was written, ISO 8601."""
    observation: Observation
    decision: Decision


def start(path: Path, spec: RolloutSpec, rollout: str) -> None:
    """Write the first entry: the whole spec."""
    audit.append(path, STARTED, rollout=rollout, spec=spec.model_dump(mode="json"), spec_digest=spec.digest)


def append(path: Path, spec: RolloutSpec, seen: Observation, decision: Decision) -> None:
    """Write one look. Raises OSError or TemporaryError; then nothing was written."""
    inputs = seen.model_dump(mode="json", exclude_defaults=True)
    audit.append(path, LOOK, observation=inputs, **facts(spec, seen, decision))


def facts(spec: RolloutSpec, seen: Observation, decision: Decision) -> dict[str, Any]:
    """What an entry says about a decision, besides its inputs: JSON values."""
    state = decision.state
    metrics = {finding.metric: finding.verdict for finding in decision.findings}
    own = [verdict for verdict in decision.verdicts if verdict not in metrics.values()]
    return {
        "rollout": state.id,
        "spec_digest": spec.digest,
        "stable": spec.stable,
        "candidate": spec.candidate,
        "phase": state.phase.value,
        "step": state.step,
        "reason": state.reason,
        "intended": shares(spec, state.weight).model_dump() | {"shadow": state.shadow},
        "observed": seen.router.model_dump(mode="json") if seen.router else None,
        "totals": {name: list(total) for name, total in state.totals.items()},
        "evidence": {f.metric: [f.harm, f.fit, f.verdict.outcome.value] for f in decision.findings},
        "verdicts": [verdict.model_dump(mode="json") for verdict in own],
        "actions": [
            action.model_dump(mode="json", exclude_defaults=True) | {"kind": action.kind} for action in decision.actions
        ],
    }


def replay(path: Path) -> list[Replayed]:
    """Every look computed again from its inputs. Raises PermanentError at the first changed line or difference."""
    return list(iterate(path))


def began(path: Path) -> datetime:
    """When the first entry was written. Raises PermanentError."""
    return datetime.fromisoformat(_first(path)["at"])


def opened(path: Path) -> tuple[RolloutSpec, RolloutState]:
    """(spec, state before the first look) from the first entry. Raises PermanentError."""
    first = _first(path)
    spec = RolloutSpec.model_validate(first["spec"])
    if spec.digest != first["spec_digest"]:
        raise PermanentError(f"{path.name}, line 1: the spec does not have the digest {first['spec_digest'][:12]}")
    return spec, begin(spec, first["rollout"])


def _first(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        first: dict[str, Any] = json.loads(file.readline() or b"{}")
    if first.get("kind") != STARTED:
        raise PermanentError(f"{path.name}: the first entry is not the start of a rollout")
    return first


def after(path: Path, offset: int) -> Iterator[Observation]:
    """The inputs of the complete entries behind `offset` bytes, unchecked: `replay` checks them all."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if line.endswith(b"\n") and (entry := json.loads(line))["kind"] == LOOK:
                yield Observation.model_validate(entry["observation"])


def iterate(path: Path) -> Iterator[Replayed]:
    """`replay`, look by look."""
    spec, state = opened(path)
    for number, entry in enumerate(audit.read(path)[1:], start=2):
        seen = Observation.model_validate(entry["observation"])
        decision = decide(spec, state, [seen])
        difference = _difference(entry, facts(spec, seen, decision))
        if difference:
            raise PermanentError(f"{path.name}, line {number} (look {seen.sequence}): {difference}")
        state = decision.state
        yield Replayed(entry["at"], seen, decision)


def _difference(written: dict[str, Any], computed: dict[str, Any]) -> str | None:
    """The first fact that comes out differently, with both values."""
    for name, value in computed.items():
        if name not in written:
            return f"{name} is missing"
        if not _same(written[name], value):
            return f"{name} is written as {_short(written[name])} and comes out as {_short(value)}"
    return None


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _short(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= 200 else text[:200] + "..."
