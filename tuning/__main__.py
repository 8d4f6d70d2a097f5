"""What a RayJob starts: `python -m tuning SWEEP.json FOLDER [SECONDS]`; the same driver as on the laptop (sweep.py)."""

import sys
import time
from pathlib import Path

from core.step import reporting_errors
from tuning.records import Sweep, Trial
from tuning.sweep import sweep


def main(settings: Path, folder: Path, seconds: float = 0.0) -> None:
    """Run the sweep that the file describes in `folder`, or go on with it; prints a line for each trial that ends."""
    ends = time.time() + seconds if seconds else 0.0
    found = sweep(Sweep.from_file(settings), folder, ends, tell)
    print(f"best: trial {found.best}; {found.config}", flush=True)


def tell(trial: Trial) -> None:
    """A line for a trial that ended."""
    if trial.state != "running":
        score = "-" if trial.score is None else f"{trial.score:.4f}"
        print(f"trial {trial.number} {trial.state}: score {score}, {trial.seconds:.0f} s {trial.reason}", flush=True)


if __name__ == "__main__":
    with reporting_errors("tune"):
        main(Path(sys.argv[1]), Path(sys.argv[2]), *map(float, sys.argv[3:4]))
