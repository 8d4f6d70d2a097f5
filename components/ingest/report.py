"""What ingest says of one source: `ingest.json`, and one line of `quarantine.jsonl` for each row it refused."""

from components.ingest.strip import Change
from core.config import Config


class Quarantined(Config):
    """A row that is not in the dataset."""

    path: str
    """As the source names it."""
    code: str
    """A fixed word for programs: a code of the workload's BadImage, or one of components/ingest/image.py."""
    reason: str
    """One sentence for people."""


class IngestReport(Config):
    """Counts over one source."""

    workload: str
    dataset: str
    """Digest of the dataset that was made."""
    source: str
    """Name of the folder or manifest."""
    rows: int
    """Rows of the source: good and quarantined."""
    good: int
    quarantined: int
    reasons: dict[str, int]
    """Quarantined rows by code."""
    changes: dict[Change, int]
    """Good rows by what was done to get the stored copy: see components/ingest/strip.py."""
    duplicates: int
    """Good rows whose stored copy is, byte for byte, that of an earlier row; they are kept."""
    missing: dict[str, int]
    """Good rows without a value, by the name of the optional field."""
    bytes_read: int
    bytes_stored: int
    """Of the distinct stored copies."""
