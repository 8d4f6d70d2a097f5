"""The reaper: `python -m components.jobs [GRACE_SECONDS]` removes the jobs of this namespace that nobody waits for."""

import sys
from datetime import UTC, datetime, timedelta

from components.jobs.cluster import Cluster
from components.jobs.reap import GRACE, reap
from core.step import reporting_errors


def main(grace: timedelta) -> None:
    """One pass; prints a line for each job that was removed."""
    for line in reap(Cluster.open(), datetime.now(UTC), grace):
        print(line, flush=True)


if __name__ == "__main__":
    with reporting_errors("reap"):
        main(timedelta(seconds=float(sys.argv[1])) if len(sys.argv) > 1 else GRACE)
