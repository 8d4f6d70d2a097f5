"""What validation says of a dataset: `report.json`, and all that `report.html` shows (components/validate/page.py)."""

from components.ingest.report import Quarantined
from core.config import Config
from core.verdict import Outcome, Verdict


class Limits(Config):
    """What a dataset must meet for the run to go on."""

    good_share: float = 0.90
    """Of the source's rows (D04)."""
    min_images: int = 5
    """Of each class: fewer cannot be spread over training and judging."""
    min_classes: int = 2
    max_classes: int = 10_000


class Spread(Config):
    """How a number is distributed over the images."""

    least: float
    p05: float
    median: float
    p95: float
    most: float


class SizeProfile(Config):
    """Of all images, upright."""

    width: Spread
    """Pixels."""
    height: Spread
    aspect: Spread
    """Width / height."""
    distinct: int
    """Different sizes."""
    shorter: tuple[tuple[str, int], ...]
    """Histogram of the shorter side: (range, images)."""


class ColourProfile(Config):
    """Of a sample of the images, decoded at 64 pixels."""

    images: int
    mean: tuple[float, float, float]
    """Red, green, blue, 0 to 255."""
    std: tuple[float, float, float]
    """Between all pixels."""
    brightness: tuple[int, ...]
    """Images by mean brightness, 16 equal ranges from 0 to 255."""
    grey: float
    """Share of images without colour."""
    flat: float
    """Share of images that show next to nothing: a standard deviation below 2 of 255."""


class Alike(Config):
    """Images that are the same, or nearly."""

    count: int
    ids: tuple[str, ...]
    """The first of them."""
    labels: tuple[str, ...]
    """Of each of these."""
    bits: int
    """By how many bits the furthest hash differs from the first's."""
    pictures: tuple[str, ...] = ()
    """Data URIs."""


class ValidationReport(Config):
    """Everything that was found."""

    workload: str
    dataset: str
    """Digest."""
    source: str
    synthetic: bool
    limits: Limits
    outcome: Outcome
    verdicts: tuple[Verdict, ...]
    warnings: tuple[str, ...]
    """What does not stop the run but should be looked at."""
    good: int
    quarantined: tuple[Quarantined, ...]
    reasons: dict[str, int]
    """Quarantined rows by code."""
    classes: dict[str, int]
    sizes: SizeProfile | None
    """None without a good image, as `colour`."""
    colour: ColourProfile | None
    duplicates: int
    """Images that equal an earlier one byte for byte."""
    near_duplicates: int
    """Images that are near another one, beyond those."""
    alike: tuple[Alike, ...]
    """The largest groups of (near-)duplicates, at most `LISTED`."""
    conflicts: int
    """Pairs of (near-)duplicates under two labels."""
    conflicting: tuple[Alike, ...]
    """The closest of these pairs, at most `LISTED`."""
    leaks: tuple[tuple[str, str], ...]
    """Groups (name, what) that the source's own split puts on two sides."""
    missing: dict[str, int]
    """Rows without a value, by optional field."""
    changes: dict[str, int]
    """Rows by what was done to their stored copy."""
    examples: dict[str, tuple[str, ...]]
    """Images of a class as data URIs: of all classes when they are few, else of the largest and the smallest."""

    @property
    def rows(self) -> int:
        """Rows of the source."""
        return self.good + len(self.quarantined)

    def counts(self) -> dict[str, float]:
        """The numbers that a dashboard shows."""
        return {
            "rows": self.rows,
            "good": self.good,
            "good_share": self.good / self.rows if self.rows else 0.0,
            "classes": len(self.classes),
            "duplicates": self.duplicates,
            "near_duplicates": self.near_duplicates,
            "conflicts": self.conflicts,
        }
