"""How many events a second the feedback service stores on SQLite: `python benchmarks/feedback.py` (1 if under 2,000).

Three figures from one run: the service at full speed (4 senders, batches of 100 with embeddings of 512), the CPU that
it takes at 2,000 events a second, and the same rows put into SQLite directly by one process, also 100 a transaction
and each on the disk before the next. Medians of 3 rounds.
"""

import json
import random
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil

BATCH, SECONDS, SENDERS, ROUNDS, BAR = 100, 5.0, 4, 3, 2000


def batch() -> str:
    """100 events as JSON lines."""
    lines = []
    for _ in range(BATCH):
        request = uuid.uuid4().hex
        lines.append(EVENT.replace("REQUEST", request))
    return "\n".join(lines)


EVENT = json.dumps(
    {
        "prediction_id": "REQUEST-0",
        "request_id": "REQUEST",
        "item": 0,
        "workload": "pills",
        "release": "f" * 64,
        "model_version": "1",
        "arm": "stable",
        "at": datetime.now(UTC).isoformat(),
        "outcome": "ok",
        "label": "red",
        "probability": 0.9,
        "labels": ["red", "blue", "green", "white", "black"],
        "probabilities": [0.9, 0.04, 0.03, 0.02, 0.01],
        "abstain": False,
        "embedding": [round(random.gauss(0, 1), 6) for _ in range(512)],
        "image": {"shape_ratio": 1.2, "texture_contrast": 0.4, "texture_entropy": 5.1},
        "latency_ms": 4.2,
    }
)


def send(url: str, until: float, done: list[int], interval: float = 0.0) -> None:
    """Post batches until the time is over, one every `interval` seconds (0: as fast as they are taken)."""
    due = time.monotonic()
    with httpx.Client(base_url=url, timeout=30) as client:
        while time.monotonic() < until:
            report = client.post("/events", content=batch()).json()
            done.append(report["accepted"])
            due += interval
            time.sleep(max(0.0, due - time.monotonic()))


def measure(url: str, process: psutil.Process, senders: int, interval: float) -> tuple[float, float]:
    """(events a second, CPU seconds of the service a second)."""
    done: list[int] = []
    before, began = sum(process.cpu_times()[:2]), time.monotonic()
    until = began + SECONDS
    threads = [threading.Thread(target=send, args=(url, until, done, interval)) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    return sum(done) / took, (sum(process.cpu_times()[:2]) - before) / took


def raw(folder: Path) -> float:
    """Rows a second that SQLite itself takes, 100 a transaction, synchronous=FULL."""
    connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
    connection.executescript(
        "pragma journal_mode=wal; pragma synchronous=full; create table events (id text primary key, row text, v blob)"
    )
    vector, rows, began = bytes(2048), 0, time.monotonic()
    while time.monotonic() - began < SECONDS:
        connection.execute("begin immediate")
        connection.executemany(
            "insert into events values (?, ?, ?)", [(uuid.uuid4().hex, "x" * 600, vector) for _ in range(BATCH)]
        )
        connection.execute("commit")
        rows += BATCH
    connection.close()
    return rows / (time.monotonic() - began)


def start(folder: Path) -> tuple["subprocess.Popen[bytes]", str]:
    """The service on a new SQLite file, ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        sys.executable,
        "-m",
        "serving.feedback",
        "--database",
        f"sqlite:///{folder / 'f.db'}",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        while process.poll() is None:
            try:
                client.get("/readyz").raise_for_status()
                return process, str(client.base_url)
            except httpx.ConnectError:
                time.sleep(0.05)
    raise SystemExit("the service did not start")


def main() -> int:
    """Print the table; 1 when the bar is missed."""
    full, share, direct = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        process, url = start(Path(scratch))
        try:
            for number in range(ROUNDS):
                full.append(measure(url, psutil.Process(process.pid), SENDERS, 0.0)[0])
                rate, cpu = measure(url, psutil.Process(process.pid), 2, 2 * BATCH / BAR)
                share.append(cpu * BAR / rate)
                folder = Path(scratch) / f"raw{number}"
                folder.mkdir()
                direct.append(raw(folder))
        finally:
            process.terminate()
            process.wait()
    rate = statistics.median(full)
    print(f"service, {SENDERS} senders      {rate:8.0f} events/s  ({min(full):.0f} to {max(full):.0f})")
    print(f"CPU at {BAR} events/s    {statistics.median(share):8.2f} cores     ({min(share):.2f} to {max(share):.2f})")
    alone = statistics.median(direct)
    print(f"SQLite alone            {alone:8.0f} rows/s    service / SQLite {rate / alone:.2f}")
    return 0 if rate >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
