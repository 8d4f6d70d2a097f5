"""Load by locust: `make load USERS=50 SECONDS=120 [URL=http://...]`; exits with 1 when a request fails.

Without a URL the servers of benchmarks/serving_home.py are started: ResNet-18 int8 at 96 px behind Envoy, gateway and
feedback beside it. CSV and HTML are kept in build/load; the table is what benchmarks/RESULTS.md holds.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.clients import LOOPBACK
from benchmarks.serving_home import ROOT, Bench

OUT = ROOT / "build" / "load"
COLUMNS = {
    "Request Count": "requests",
    "Failure Count": "failed",
    "Requests/s": "requests/s",
    "50%": "p50, ms",
    "95%": "p95, ms",
    "99%": "p99, ms",
    "99.9%": "p99.9, ms",
}


def locust(url: str, users: int, seconds: int) -> int:
    """Run it to its end; its exit code is 1 when a request failed."""
    OUT.mkdir(parents=True, exist_ok=True)
    file = Path(__file__).with_name("locustfile.py")
    words = ["-f", str(file), "--headless", "--only-summary", "--loglevel", "WARNING", "--host", url]
    length = ["--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds}s"]
    kept = ["--csv", str(OUT / "load"), "--html", str(OUT / "load.html")]
    command = [sys.executable, "-m", "locust", *words, *length, *kept]
    return subprocess.run(command, stdout=subprocess.DEVNULL, cwd=ROOT, check=False).returncode


def table() -> str:
    """What locust's CSV says, by kind of request."""
    lines = [f"| | {' | '.join(COLUMNS.values())} |", f"|---|{'---|' * len(COLUMNS)}"]
    with (OUT / "load_stats.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            figures = " | ".join(f"{float(row[name]):,.0f}" for name in COLUMNS)
            lines.append(f"| {row['Name']} | {figures} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 when a request failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--url", help="of a stack that serves `pills`")
    given = parser.parse_args()
    with ExitStack() as stack:
        url = given.url
        if url is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = f"http://{LOOPBACK}:{Bench(stack, folder, 96).edge}"
        code = locust(url, given.users, given.seconds)
    print(f"{given.users} users, {given.seconds} s\n\n{table()}\n\nCSV and HTML: {OUT.relative_to(ROOT)}")
    return int(code != 0)


if __name__ == "__main__":
    sys.exit(main())
