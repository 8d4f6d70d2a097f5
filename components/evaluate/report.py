"""What is known of an exported model after it answered one side of the split: `metrics.json`."""

from typing import Literal

from core.config import Config
from core.dataset import Split


class Measured(Config):
    """A share with its 95 % interval, by drawing whole groups."""

    value: float
    low: float
    high: float


class ClassRow(Config):
    """One class."""

    label: str
    rows: int
    precision: float
    recall: float
    f1: float


class Latency(Config):
    """Milliseconds of single requests, one after the other, on Triton's own port."""

    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


class Example(Config):
    """One answer, to look at."""

    id: str
    sha256: str
    label: str
    """The right one."""
    answer: str
    probability: float
    abstain: bool


class EvaluationReport(Config):
    """`metrics.json`: the numbers that the gate judges and the card shows."""

    workload: str
    dataset: str
    """Digest."""
    synthetic: bool
    split: Split
    rows: int
    groups: int
    """Independent units: the intervals draw these."""
    precision: Literal["int8", "fp32"]
    accuracy: Measured
    """Top-1."""
    top5: Measured
    mean_average_precision: Measured
    auc: float | None
    """Macro average, one against rest; none where a side has one class."""
    macro_f1: float
    ece_before: float
    """Expected calibration error without the fitted temperature."""
    ece_after: float
    temperature: float
    answered: float
    """Share of rows that the model does not abstain on."""
    answered_accuracy: float | None
    """Accuracy over these; none when it abstains on all."""
    classes: tuple[ClassRow, ...]
    confusion: tuple[tuple[int, ...], ...]
    """Rows: right labels; columns: answers; in the order of `classes`. Empty beyond 200 classes."""
    latency: Latency
    memory_mb: float
    """Proportional set size of Triton and its stubs, MiB, after the side was answered."""
    examples: tuple[Example, ...]
    """Some right and some wrong answers."""
