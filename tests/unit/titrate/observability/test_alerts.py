"""Every alert fires after its own time and not before, and stays quiet in quiet times: promtool, real durations."""

import math

import pytest

from core.slo import Slo
from tests.promtool import Part, case, counter, firing, gauge, run
from titrate.observability.rules import objectives, rules
from titrate.observability.sources import EDGE
from titrate.observability.spans import BURNS, DAY, HOUR, span

SLOS = {"pills": Slo.load("pills")}
RULES = rules(SLOS)
ALERTS = {rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
BURNING = {one.alert for one in objectives(SLOS.values())}
VOLUME = {"groups": [{"name": "volume", "rules": [r for r in RULES["groups"][2]["rules"] if "predictions" in str(r)]}]}
PLAIN = {
    "groups": [
        {**group, "rules": [rule for rule in group["rules"] if "ratio_rate" not in str(rule)]}
        for group in RULES["groups"]
        if group["name"] != "titrate-budget"
    ]
}
"""Without what burns budgets: a third of the work."""
HTTP = 'envoy_http_conn_manager_prefix="http-10080"'
BEFORE, AFTER = 70, 30
"""Minutes before something breaks, and after."""
DAYS = int(DAY / 60)
THEN = DAYS + 60
"""From here on yesterday is known."""


def healthy(minutes: int, rate: float = 600) -> dict[str, str]:
    """Ten requests a second, all of them fast and right."""
    good = counter((minutes, rate))
    return {
        f'envoy_http_downstream_rq_xx{{{HTTP},envoy_response_code_class="2"}}': good,
        f'envoy_http_downstream_rq_xx{{{HTTP},envoy_response_code_class="5"}}': counter((minutes, 0)),
        **{f'envoy_http_downstream_rq_time_bucket{{{HTTP},le="{le}"}}': good for le in (50, 1000, 2000, 2500, "+Inf")},
        f"envoy_http_downstream_rq_time_count{{{HTTP}}}": good,
        "titrate_gateway_upstream_ready": gauge((minutes, 1)),
        'up{job="titrate-gateway",instance="a"}': gauge((minutes, 1)),
        PREDICTIONS: good,
        LABELS: counter((minutes, rate / 100)),
        OUTCOMES.format("right"): counter((minutes, rate / 100 * 0.96)),
        OUTCOMES.format("wrong"): counter((minutes, rate / 100 * 0.04)),
        DRIFT: gauge((minutes, 0.1)),
        MEMORY: gauge((minutes, 800 * 2**20)),
        DROPPED: counter((minutes, 0)),
        FAILURES: counter((minutes, 0)),
    }


PREDICTIONS = 'titrate_predictions_total{model="pills",outcome="ok"}'
LABELS = 'titrate_feedback_labels_total{result="stored"}'
OUTCOMES = 'titrate_feedback_outcomes_total{{workload="pills",outcome="{}"}}'
DRIFT = 'titrate_drift_score{workload="pills"}'
MEMORY = 'titrate_model_memory_bytes{model="pills",instance="a"}'
DROPPED = 'titrate_events_total{model="pills",result="dropped"}'
FAILURES = 'titrate_retraining_failures_total{workload="pills"}'
PENDING = 'titrate_retraining_pending_since_seconds{workload="pills"}'
LE = "envoy_http_downstream_rq_time_bucket{{" + HTTP + ',le="{}"}}'


def outcomes(right: float) -> dict[str, str]:
    """A share of right answers from minute BEFORE on; so few before that the day's share follows at once."""
    one = BEFORE, 0.001
    return {
        OUTCOMES.format("right"): counter(one, (AFTER, 100 * right)),
        OUTCOMES.format("wrong"): counter(one, (AFTER, 100 * (1 - right))),
    }


def after(rate: float, before: float = 600) -> str:
    return counter((BEFORE, before), (AFTER, rate))


# Alert: what replaces a healthy series, minutes after the change when it is still quiet, when it fires.
# The rate of 5 minutes has to follow the change first: about as many minutes more than the alert waits.
CASES: dict[str, tuple[dict[str, str | None], int, int]] = {
    "TitrateLatencyHigh": ({LE.format(le): after(0) for le in (50, 1000, 2000)}, 2, 4),
    "TitrateLimitNotCounted": ({LE.format(2000): counter((BEFORE, 600))}, 14, 20),
    "TitrateModelNotReady": ({"titrate_gateway_upstream_ready": gauge((BEFORE, 1), (AFTER, 0))}, 1, 4),
    "TitrateTargetDown": ({'up{job="titrate-gateway",instance="a"}': gauge((BEFORE, 1), (AFTER, 0))}, 2, 5),
    "TitrateAccuracyLow": (outcomes(0.84), 5, 8),
    "TitrateAccuracyBelowGate": (outcomes(0.87), 5, 8),
    "TitrateLabelsMissing": ({LABELS: None}, -10, 20),
    "TitrateDrift": ({DRIFT: gauge((BEFORE, 0.1), (AFTER, 0.31))}, 9, 12),
    "TitrateMemoryHigh": ({MEMORY: gauge((BEFORE, 1e9), (AFTER, 2.2e9))}, 9, 12),
    "TitrateEventsDropped": ({DROPPED: after(1, 0)}, 14, 18),
    "TitrateRetrainingFailed": ({FAILURES: counter((BEFORE, 0), (1, 1), (AFTER - 1, 0))}, 0, 3),
}


@pytest.mark.parametrize("alert", sorted(CASES))
def test_alert_fires_after_its_time_alone_and_not_before(alert, tmp_path):
    changed, quiet, fires = CASES[alert]
    series = {**healthy(BEFORE + AFTER), **changed}
    given = {name: values for name, values in series.items() if values is not None}
    mine = f'alertname="{alert}"'
    others = f'alertname!="{alert}"'
    checks = [firing("", BEFORE + quiet, None)] if quiet < 0 else [firing(mine, BEFORE + quiet, None)]
    run(
        tmp_path, PLAIN, [case(given, [*checks, firing(mine, BEFORE + fires, 1), firing(others, BEFORE + fires, None)])]
    )


@pytest.mark.parametrize(
    ("alert", "rate", "quiet", "fires"),
    [("TitrateVolumeHigh", 2000, 5, 12), ("TitrateVolumeLow", 50, 4, 12), ("TitrateVolumeLow", 0, 4, 12)],
)
def test_unusual_volume_is_measured_against_yesterday_at_this_time(alert, rate, quiet, fires, tmp_path):
    series = {PREDICTIONS: counter((THEN, 600), (60, rate))}
    checks = [
        firing('alertname=~"TitrateVolume.*"', THEN + quiet, None),
        firing(f'alertname="{alert}"', THEN + fires, 1),
    ]
    run(tmp_path, VOLUME, [case(series, checks)])


@pytest.mark.parametrize("rate", [1700, 70])
def test_volume_within_the_limits_is_quiet_and_so_is_the_first_day(rate, tmp_path):
    series = {PREDICTIONS: counter((THEN, 600), (60, rate))}
    checks = [firing('alertname=~"TitrateVolume.*"', THEN + at, None) for at in (-90, -65, -55, -35, -5, 10, 30, 50)]
    run(tmp_path, VOLUME, [case(series, checks)])


def test_late_retraining_is_told_after_seven_days(tmp_path):
    minutes = 7 * DAYS
    checks = [firing("", minutes - 10, None), firing('alertname="TitrateRetrainingLate"', minutes + 10, 1)]
    late = [rule for rule in RULES["groups"][2]["rules"] if rule.get("alert") == "TitrateRetrainingLate"]
    series = {PENDING: gauge((minutes + 20, 0))}
    run(tmp_path, {"groups": [{"name": "late", "rules": late}]}, [case(series, checks)], "5m")


def _burnt(name: str, parts: list[Part], step: int) -> dict[str, str]:
    """Requests of which a part is bad: (minutes, share)."""
    bad = counter(*((minutes, 600 * share) for minutes, share in parts), step=step)
    good = counter(*((minutes, 600 * (1 - share)) for minutes, share in parts), step=step)
    every = counter(*((minutes, 600) for minutes, _ in parts), step=step)
    if name == "errors":
        xx = "envoy_http_downstream_rq_xx{{" + HTTP + ',envoy_response_code_class="{}"}}'
        return {xx.format(2): good, xx.format(5): bad}
    return {
        LE.format(1000 if name == "slow_p95" else 2000): good,
        f"envoy_http_downstream_rq_time_count{{{HTTP}}}": every,
    }


@pytest.mark.parametrize("one", objectives(SLOS.values()), ids=lambda one: one.name)
def test_budget_alerts_fire_in_both_windows_and_stop_with_the_short_one(one, tmp_path):
    """At twice the limit the long window is full at half its length; below the limit nothing fires."""
    cases = []
    for burn in [burn for burn in BURNS[one.period] if burn.long < DAY]:  # those of days cost promtool minutes
        limit, window = burn.rate(one.period) * one.share, f'alertname="{one.alert}",window="{span(burn.long)}"'
        minutes, step = int(burn.long / 60), 5 if burn.long > 6 * HOUR else 1
        half, end = minutes // 2, int(burn.short / 60) + 10
        series = _burnt(one.name, [(minutes, 0), (minutes, 2 * limit), (end + 20, 0)], step)
        checks = [
            firing(window, minutes + half - minutes // 10 - 2, None),
            firing(window, minutes + half + minutes // 10 + 6, 1),
            firing(window, 2 * minutes + end + 5, None),
        ]
        cases.append(case(series, checks, step))
        cases.append(
            case(_burnt(one.name, [(2 * minutes, 0.8 * limit)], step), [firing(window, 2 * minutes - 5, None)], step)
        )
    own = [rule for rule in RULES["groups"][0]["rules"] if one.name in str(rule) or rule.get("alert") == one.alert]
    run(tmp_path, {"groups": [{"name": "edge", "rules": own}]}, cases, "5m")


def test_two_quiet_days_with_their_cycle_and_a_few_errors_are_quiet(tmp_path):
    """Thirty times as much at noon as at night, and half of the budget used evenly."""
    hours = [(60, 20 + 580 * math.sin(math.pi * hour / 24) ** 2) for hour in range(24)] * 2
    series = healthy(2 * DAYS)
    for name in [name for name in series if "envoy" in name or name == PREDICTIONS]:
        series[name] = counter(*hours)
    series[f'envoy_http_downstream_rq_xx{{{HTTP},envoy_response_code_class="5"}}'] = counter(
        *((minutes, rate * 0.0005) for minutes, rate in hours)
    )
    checks = [firing("", 60 * hour + 59, None) for hour in range(2, 48)]
    run(tmp_path, RULES, [case(series, checks)], "30m")


def test_one_failure_of_a_quiet_night_wakes_nobody(tmp_path):
    series = healthy(240, rate=1)
    series[f'envoy_http_downstream_rq_xx{{{HTTP},envoy_response_code_class="5"}}'] = counter((120, 0), (1, 1), (119, 0))
    run(tmp_path, {"groups": RULES["groups"][:1]}, [case(series, [firing("", 125, None), firing("", 180, None)])], "5m")


def test_without_any_metric_nothing_fires(tmp_path):
    run(tmp_path, RULES, [case({"other": "1x60"}, [firing("", 60, None)])], "5m")


def test_every_alert_has_a_test():
    volumes = {"TitrateVolumeHigh", "TitrateVolumeLow", "TitrateRetrainingLate"}
    assert set(CASES) | BURNING | volumes == ALERTS


def test_the_edge_is_that_of_both_places():
    assert EDGE.endswith('=~"edge|https?-[0-9]+"')
