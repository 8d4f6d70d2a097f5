"""What the model inside Triton counts. Copied into every release beside model.py, which calls it.

Triton shares a metric of equal labels between its Python processes and frees it too early (triton-inference-server
issue 8663; increments from two processes crashed the server here), hence the label `process`. One operation on a metric
costs 24 us of CPU and 70 us of waiting, so counts are summed here, and a thread that delays no answer hands them over.
"""

import collections
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLUSH_SECONDS = 0.5
BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0]
"""Seconds; the last three are the limits of slo.yaml."""
BANDS = 10
"""Equal bands of the calibrated probability."""
OK = "ok"
BATCHES, EVENTS = "titrate_batches_total", "titrate_events_total"
PREDICTIONS, ABSTENTIONS = "titrate_predictions_total", "titrate_abstentions_total"
CONFIDENCE = "titrate_confidence_total"
LABELS = ("model", "release", "model_version", "process")
"""Of every metric here."""
COUNTERS = {
    BATCHES: ("size", "Executions, by the number of items"),
    EVENTS: ("result", "Sampled items, by what became of their event: sent, dropped, refused, shed"),
    PREDICTIONS: ("outcome", "Items answered, by outcome: ok, or why the image was refused"),
    ABSTENTIONS: ("", "Items answered with the abstain flag"),
    CONFIDENCE: ("band", "Items answered, by band of the calibrated probability (its lower end)"),
}
"""By name: the label of its own ("" for none), and what it counts."""
EXECUTION = "titrate_execution_seconds"
EXECUTION_HELP = "Decoding to answer of one batch, without queue; every item in the batch waits this long"
MEMORY = "titrate_model_memory_bytes"
MEMORY_HELP = "Proportional set size of one model process"
MEMORY_SECONDS = 10.0
"""Between two looks at it, which cost some milliseconds."""
Key = tuple[str, str]
"""(metric, value of its own label)."""


class Counts:
    """The metrics of one process of one release."""

    def __init__(self, model: str, release: str, version: str) -> None:
        import triton_python_backend_utils as pb_utils  # exists inside Triton alone

        self._labels = dict(zip(LABELS, (model, release, version, str(os.getpid())), strict=True))
        family = pb_utils.MetricFamily
        self._families = {name: family(name, text, family.COUNTER) for name, (_, text) in COUNTERS.items()}
        self._executions = family(EXECUTION, EXECUTION_HELP, family.HISTOGRAM)
        self._execution = self._executions.Metric(labels=self._labels, buckets=BUCKETS)
        self._memories = family(MEMORY, MEMORY_HELP, family.GAUGE)
        self._memory = self._memories.Metric(labels=self._labels)
        self._looked = -MEMORY_SECONDS
        self._metrics: dict[Key, Any] = {}
        self._notes: collections.deque[tuple[Key, int]] = collections.deque()
        self._waiting: collections.deque[tuple[list[bytes], Any, Any, float]] = collections.deque(maxlen=100_000)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, errors: list[bytes], probability: NDArray[Any], abstain: NDArray[Any], seconds: float) -> None:
        """Count one execution: `errors`, `probability` and `abstain` hold a value for each item."""
        self._waiting.append((errors, probability, abstain, seconds))

    def note(self, metric: str, value: str, count: int) -> None:
        """Count something else, `count` times; `value` is that of the metric's own label."""
        if count:
            self._notes.append(((metric, value), count))

    def close(self) -> None:
        """Hand over the rest, and let go of the metrics while the server still listens."""
        self._closed.set()
        self._thread.join()
        self._metrics.clear()
        self._families.clear()
        del self._execution, self._executions, self._memory, self._memories

    def _run(self) -> None:
        while not self._closed.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        sums: collections.Counter[Key] = collections.Counter()
        while self._notes:
            key, count = self._notes.popleft()
            sums[key] += count
        while self._waiting:
            errors, probability, abstain, seconds = self._waiting.popleft()
            sums.update(tally(errors, probability, abstain))
            self._execution.observe(seconds)
        for key, count in sums.items():
            self._metric(*key).increment(count)
        if time.monotonic() - self._looked >= MEMORY_SECONDS:
            self._looked = time.monotonic()
            self._memory.set(memory_bytes())

    def _metric(self, name: str, value: str) -> Any:
        key, label = (name, value), COUNTERS[name][0]
        if key not in self._metrics:
            labels = {**self._labels, label: value} if label else self._labels
            self._metrics[key] = self._families[name].Metric(labels=labels)
        return self._metrics[key]


def memory_bytes() -> int:
    """Proportional set size of this process."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def tally(errors: list[bytes], probability: NDArray[Any], abstain: NDArray[Any]) -> dict[Key, int]:
    """Counts of one execution."""
    found: collections.Counter[Key] = collections.Counter()
    if errors:
        found[BATCHES, str(len(errors))] = 1
    for error in errors:
        found[PREDICTIONS, error.split(b":")[0].decode() if error else OK] += 1
    good = np.array([not error for error in errors], dtype=bool)
    found[ABSTENTIONS, ""] = int(abstain[good].sum())
    for band, count in enumerate(np.bincount(np.minimum((probability[good] * BANDS).astype(int), BANDS - 1))):
        if count:
            found[CONFIDENCE, f"{band / BANDS:.1f}"] = int(count)
    return found
