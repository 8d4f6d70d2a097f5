"""What export found: `export.json`, read by the card, the report and the registry."""

from typing import Literal

from core.config import Config


class Speed(Config):
    """Images a second of one inference thread, the median of REPEATS runs."""

    one: float
    """In batches of one image."""
    eight: float
    """In batches of eight."""


class Precision(Config):
    """What was chosen, and why."""

    chosen: Literal["int8", "fp32"]
    agreement: float | None
    """Share of the validation rows on which int8 and fp32 give the same label; none when int8 was not tried."""
    rows: int
    """Validation rows that were compared."""
    fp32_bytes: int
    int8_bytes: int | None
    fp32_speed: Speed
    int8_speed: Speed | None
    warning: str
    """What the release's card must say; empty when int8 was taken, or not asked for."""


class ExportReport(Config):
    """`export.json`: what was exported, and what it cost."""

    opset: int
    torch_difference: float
    """Largest absolute difference between ONNX (fp32) and torch over all outputs."""
    precision: Precision
    temperature: float
    abstain_below: float
    calibration_rows: int
    """Validation rows that fitted temperature and abstention, and are the drift reference."""
