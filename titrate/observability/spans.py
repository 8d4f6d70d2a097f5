"""Lengths of time in Prometheus' spelling, and the windows of burn-rate alerts.

Google's SRE workbook, chapter 5: an alert fires while a long and a short window both burn the budget too fast; the
long one says that it matters, the short one that it still goes on.
"""

from typing import NamedTuple

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
UNITS = (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", 1.0), ("ms", 0.001))
PAGE, TICKET = "critical", "warning"


def span(seconds: float, pace: float = 1.0) -> str:
    """`seconds`, `pace` times shorter, as Prometheus writes it: 5400 is `1h30m`."""
    left = round(seconds / pace * 1000)
    parts = []
    for unit, length in UNITS:
        count, left = divmod(left, round(length * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


class Burn(NamedTuple):
    """One pair of windows (seconds)."""

    long: float
    short: float
    spent: float
    """Share of the period's budget that is gone when the long window is full."""
    severity: str

    def rate(self, period: float) -> float:
        """Times faster than allowed over `period` seconds."""
        return self.spent * period / self.long


MONTH = 30 * DAY
BURNS = {
    MONTH: (
        Burn(HOUR, 5 * MINUTE, 0.02, PAGE),
        Burn(6 * HOUR, 30 * MINUTE, 0.05, PAGE),
        Burn(DAY, 2 * HOUR, 0.10, TICKET),
        Burn(3 * DAY, 6 * HOUR, 0.10, TICKET),
    ),
    DAY: (
        Burn(15 * MINUTE, 5 * MINUTE, 0.10, PAGE),
        Burn(HOUR, 5 * MINUTE, 0.25, PAGE),
        Burn(4 * HOUR, 20 * MINUTE, 0.50, TICKET),
        Burn(DAY, 2 * HOUR, 1.0, TICKET),
    ),
}
"""By period of the objective: 14.4, 6, 3 and 1 times the allowed rate over 30 days, 9.6, 6, 3 and 1 over a day."""


def windows(period: float) -> list[float]:
    """Every window that the alerts of `period` look at, shortest first."""
    return sorted({length for burn in BURNS[period] for length in (burn.long, burn.short)})
