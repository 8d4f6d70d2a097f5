"""The metrics that rules and dashboards read, each named once, with who exports it."""

EDGE = 'envoy_http_conn_manager_prefix=~"edge|https?-[0-9]+"'
"""The listeners for clients: `edge` on the laptop, `http-10080` or `https-10443` of Envoy Gateway."""
REQUESTS = "envoy_http_downstream_rq_xx"
TIMES = "envoy_http_downstream_rq_time"
READY = "titrate_gateway_upstream_ready"
PREDICTIONS = "titrate_predictions_total"
LABELS = "titrate_feedback_labels_total"
FAILED_CALLS = "nv_inference_request_failure"
MEMORY = "titrate_model_memory_bytes"
EVENTS = "titrate_events_total"
OUTCOMES = "titrate_feedback_outcomes_total"
DRIFT = "titrate_drift_score"
RETRAIN_FAILURES = "titrate_retraining_failures_total"
RETRAIN_PENDING = "titrate_retraining_pending_since_seconds"

WAITING = {
    DRIFT: "score 0..1 of the drift service, by workload",
    RETRAIN_FAILURES: "retraining runs that failed, by workload",
    RETRAIN_PENDING: "time of the oldest trigger whose release does not serve yet, by workload",
}
"""Nothing exports these yet: their rules stay quiet, their panels empty. A test keeps the list true."""
