"""What calls return."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """The answer for one image."""

    prediction_id: str
    """Name it when you send the right label later."""
    label: str
    probability: float
    """Calibrated: of all answers given with 0.9, nine in ten are right."""
    top: tuple[tuple[str, float], ...]
    """The most probable labels with their probabilities, best first."""
    abstain: bool
    """True when the model is not sure enough for anyone to rely on `label`."""
    release: str
    """Digest of the release that answered."""


@dataclass(frozen=True)
class Refusal:
    """Why one image got no answer."""

    prediction_id: str
    code: str
    """Stable, for example `truncated` or `not_an_image`."""
    detail: str


@dataclass(frozen=True)
class LabelResult:
    """What became of one label."""

    prediction_id: str
    result: str
    """stored, waiting (its prediction was not sampled, or is still on its way), duplicate, contradicts (another label
    was given first and stands), future or invalid."""
    reason: str = ""


@dataclass(frozen=True)
class Model:
    """One served model."""

    workload: str
    versions: tuple[str, ...]
    max_batch: int
