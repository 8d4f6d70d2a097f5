"""Every metric there is to read, from the declarations of those who export it: `docs/metrics.md`."""

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from serving.feedback.app import Metrics as FeedbackMetrics
from serving.gateway.observe import Metrics as GatewayMetrics
from serving.triton import counts
from titrate.loop.service import Metrics as LoopMetrics
from titrate.observability import sources

MODEL, GATEWAY, FEEDBACK, LOOP = "model", "gateway", "feedback", "loop"
ENVOY, TRITON = "Envoy", "Triton"
PLACES = {
    MODEL: "`/metrics` of each Triton server, from inside the model",
    TRITON: "`/metrics` of each Triton server, its own",
    GATEWAY: "`/metrics` of the gateway",
    FEEDBACK: "`/metrics` of the feedback service",
    LOOP: "`/metrics` of the loop: drift and retraining",
    ENVOY: "`/stats/prometheus` of Envoy's admin port; Envoy Gateway's proxies on the cluster",
}
UNITS = {"seconds": "s", "bytes": "bytes", "ratio": "0..1", "nats": "nats"}
"""By the ending of a name (prometheus.io/docs/practices/naming); anything else is a number of things."""


LISTENER = "envoy_http_conn_manager_prefix"


class Metric(NamedTuple):
    """One row."""

    place: str
    name: str
    kind: str
    """counter, gauge or histogram."""
    labels: tuple[str, ...]
    unit: str
    meaning: str


BORROWED = (
    Metric(
        ENVOY, sources.REQUESTS, "counter", (LISTENER, "envoy_response_code_class"), "1", "Answers, by class of status"
    ),
    Metric(ENVOY, sources.TIMES, "histogram", (LISTENER,), "ms", "First byte of a request to last byte of its answer"),
    Metric(TRITON, sources.FAILED_CALLS, "counter", ("model", "version", "reason"), "1", "Requests that failed"),
    Metric(TRITON, "nv_inference_request_success", "counter", ("model", "version"), "1", "Requests answered"),
    Metric(TRITON, "nv_inference_queue_duration_us", "counter", ("model", "version"), "us", "Waiting, summed"),
)
"""What we rely on of others."""


def catalogue() -> list[Metric]:
    """All of them, ours first."""
    services = {GATEWAY: GatewayMetrics(), FEEDBACK: FeedbackMetrics(), LOOP: LoopMetrics()}
    return [*_of_model(), *(one for place, its in services.items() for one in _of_service(place, its)), *BORROWED]


def _of_model() -> Iterator[Metric]:
    for name, (label, text) in counts.COUNTERS.items():
        yield _ours(MODEL, name, "counter", (*counts.LABELS, label) if label else counts.LABELS, text)
    yield _ours(MODEL, counts.EXECUTION, "histogram", counts.LABELS, counts.EXECUTION_HELP)
    yield _ours(MODEL, counts.MEMORY, "gauge", counts.LABELS, counts.MEMORY_HELP)


def _of_service(place: str, metrics: object) -> Iterator[Metric]:
    for one in vars(metrics).values():
        if isinstance(one, MetricWrapperBase):
            [family] = one.describe()
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = one._labelnames  # prometheus_client tells them in no other way
            yield _ours(place, name, family.type, labels, family.documentation)


def _ours(place: str, name: str, kind: str, labels: tuple[str, ...], meaning: str) -> Metric:
    return Metric(place, name, kind, labels, UNITS.get(name.removesuffix("_total").split("_")[-1], "1"), meaning)


def metrics_page() -> str:
    """Markdown."""
    parts = ["# Metrics", "", "Made from the declarations in the code by `make observability`; do not edit."]
    rows = catalogue()
    for place, where in PLACES.items():
        parts += ["", f"## {place[0].upper()}{place[1:]}", "", f"{where}.", ""]
        parts += ["| metric | type | labels | unit | meaning |", "|---|---|---|---|---|"]
        parts += [_row(one) for one in rows if one.place == place]
    return "\n".join(parts) + "\n"


def _row(one: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in one.labels)
    return f"| `{one.name}` | {one.kind} | {labels} | {one.unit} | {one.meaning.removesuffix('.')} |"
