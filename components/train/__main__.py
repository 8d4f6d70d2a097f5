"""What torchrun starts, on the laptop and in a TrainJob: `python -m components.train JOB.json`, once per process."""

import os
import sys
from pathlib import Path

import torch

from components.train.job import Job
from components.train.loop import Training
from components.train.processes import Interruption, team
from components.train.result import write
from components.train.tracking import Tracker
from core.step import reporting_errors


def main(path: Path) -> None:
    """Train the job in the file `path`; the leading process tracks it and writes the result."""
    interruption = Interruption()
    interruption.listen()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    job = Job.from_file(path)
    with team() as us:
        tracker = Tracker.of(job) if us.leads else None
        status, run = "FAILED", ""
        try:
            training = Training(job, us, interruption, tracker)
            state = training.run()
            status = "FINISHED"
        finally:
            if tracker:
                run = tracker.finish("KILLED" if interruption.asked else status)
        if us.leads:
            write(training, state, run)


if __name__ == "__main__":
    with reporting_errors("train"):
        main(Path(sys.argv[1]))
