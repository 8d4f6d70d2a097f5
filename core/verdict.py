"""A verdict is pass, fail, inconclusive or error, with its reason: never a bare bool. No data is inconclusive."""

from collections.abc import Iterable
from enum import StrEnum

from core.config import Config


class Outcome(StrEnum):
    """What was found, from best to worst."""

    PASS = "pass"  # nosec B105 # a verdict, not a password
    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"
    ERROR = "error"


class Verdict(Config):
    """One judged question."""

    question: str
    """What was asked, for example `accuracy >= 0.90`."""
    outcome: Outcome
    reason: str
    """One sentence with the numbers that decided."""
    value: float | None = None
    limit: float | None = None


def overall(verdicts: Iterable[Verdict]) -> Outcome:
    """The worst outcome; of nothing: inconclusive."""
    order = list(Outcome)
    return max((v.outcome for v in verdicts), key=order.index, default=Outcome.INCONCLUSIVE)
