"""What a run used, and what that costs by the home's own price table (S12, I10).

`<home>/prices.json`, for example {"currency": "EUR", "cpu_hour": 0.04, "gpu_hour": 2.5}; without it no money is shown.
"""

import contextlib
import resource
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field

from core.config import Config
from core.home import Home

POWERCAP = Path("/sys/class/powercap")
"""Where Linux tells the energy of processor packages (RAPL), to those who may read it."""
Amount = Annotated[float, Field(ge=0)]


class Prices(Config):
    """Of one hour of one core, and of one GPU."""

    currency: str = "EUR"
    cpu_hour: Amount = 0.0
    gpu_hour: Amount = 0.0

    @classmethod
    def of(cls, home: Home) -> Self | None:
        """Those of the home; none where it has no table. Raises UserError for one that cannot be understood."""
        file = home.root / "prices.json"
        return cls.from_file(file) if file.exists() else None


class Cost(Config):
    """Of one run, over all its attempts."""

    cpu_seconds: float = 0.0
    """Of all its processes."""
    gpu_seconds: float = 0.0
    """Seconds of training times GPUs, busy or not."""
    peak_memory_mb: float = 0.0
    """Resident, of its largest process."""
    energy_joules: float | None = None
    """Of the whole processor package meanwhile, whatever else ran; none where it cannot be read."""

    def plus(self, other: "Cost") -> "Cost":
        """Of two attempts."""
        both = None
        if self.energy_joules is not None or other.energy_joules is not None:
            both = (self.energy_joules or 0.0) + (other.energy_joules or 0.0)
        return Cost(
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            gpu_seconds=self.gpu_seconds + other.gpu_seconds,
            peak_memory_mb=max(self.peak_memory_mb, other.peak_memory_mb),
            energy_joules=both,
        )

    def money(self, prices: Prices) -> float:
        """In the currency of the prices."""
        return (self.cpu_seconds * prices.cpu_hour + self.gpu_seconds * prices.gpu_hour) / 3600


class Meter:
    """Counts what the children of this process use from now on; those that it has waited for."""

    def __init__(self) -> None:
        self._began, self._energy = _spent(), _energy()

    def read(self) -> Cost:
        """Since the beginning. The peak is that of any child so far."""
        energy = _energy()
        used = None if energy is None or self._energy is None or energy < self._energy else energy - self._energy
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return Cost(cpu_seconds=_spent() - self._began, peak_memory_mb=peak, energy_joules=used)


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _energy() -> float | None:
    """Joules of all packages; none where nobody tells."""
    found = []
    for file in POWERCAP.glob("intel-rapl:[0-9]*/energy_uj"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(file.read_text()) / 1e6)
    return sum(found) if found else None
