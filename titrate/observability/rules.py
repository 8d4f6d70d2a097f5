"""Prometheus rules from the ladders of the workloads: recorded series first, then the alerts over them.

Formulas of the seeds that never fire are corrected here: a quantile needs `rate`, `_bucket` and `by (le)` (X03), and a
score is compared, not increased (X04). No data raises no alert but those about missing data.
"""

from collections.abc import Iterable
from typing import Any

from core.slo import Slo
from titrate.observability import sources
from titrate.observability.spans import BURNS, DAY, HOUR, MINUTE, MONTH, PAGE, TICKET, span, windows

Rule = dict[str, Any]
RUNBOOK = "docs/runbook.md"
SRE, ML, DATA = "sre", "ml-engineering", "data-science"
MIN_BAD = 5
"""Fewer bad requests in the long window wake nobody: a single failure of a quiet hour is no trend."""
MIN_USUAL = 30
"""Requests in 5 minutes below which their number is no sign: at 30 expected, 3 or fewer have a chance of 5e-10."""
WEEK = 7 * DAY
RETRAIN_LIMIT = 7 * DAY
"""From the trigger to the serving release (B07)."""


def rules(slos: dict[str, Slo], pace: float = 1.0) -> dict[str, Any]:
    """A rule file; `pace` shortens every window and wait, so that a test can watch the same rules in seconds."""
    strictest = min(slos.values(), key=lambda slo: 1 - slo.availability)
    groups = [
        {"name": "titrate-edge", "rules": [*_edge_records(slos.values(), pace), *_edge_alerts(slos.values(), pace)]},
        {"name": "titrate-budget", "interval": span(5 * MINUTE, pace), "rules": _budget(strictest, pace)},
    ]
    for workload, slo in sorted(slos.items()):
        records, alerts = _workload_records(workload, slo, pace), _workload_alerts(workload, slo, pace)
        groups.append({"name": f"titrate-{workload}", "rules": [*records, *alerts]})
    return {"groups": groups}


class Objective:
    """One objective of the edge: which recorded ratio, how much of it is allowed, over which period."""

    def __init__(self, name: str, share: float, period: float, bad: str, every: str, text: str) -> None:
        self.name, self.share, self.period, self.text = name, share, period, text
        self._bad, self._every = bad, every

    @property
    def alert(self) -> str:
        """Its alert."""
        return f"Titrate{self.name.title().replace('_', '')}BudgetBurn"

    def ratio(self, window: float) -> str:
        """The recorded share of bad requests."""
        return f"titrate:edge_{self.name}:ratio_rate{span(window)}"

    def records(self, pace: float) -> list[Rule]:
        """The share for each window; nothing where the limit is not counted, NaN without requests."""
        found = []
        for window in windows(self.period):
            within = span(window, pace)
            bad, every = (part.replace("WINDOW", within) for part in (self._bad, self._every))
            found.append({"record": self.ratio(window), "expr": f"({bad}) / {every}"})
        return found

    def bad_requests(self, window: float, pace: float) -> str:
        """How many were bad during the window."""
        return f"({self._bad.replace('WINDOW', span(window, pace))}) * {window / pace:g}"


def objectives(slos: Iterable[Slo]) -> list[Objective]:
    """S07 and S05, at the strictest limits of the workloads that share the edge."""
    found = list(slos)
    every, edge = f"sum(rate({sources.REQUESTS}{{{sources.EDGE}}}[WINDOW]))", sources.EDGE
    errors = f'sum(rate({sources.REQUESTS}{{{edge},envoy_response_code_class="5"}}[WINDOW]))'
    availability = max(slo.availability for slo in found)
    one = [Objective("errors", round(1 - availability, 9), MONTH, errors, every, "answered by a server error")]
    for name, share, limit in (
        ("slow_p95", 0.05, min(slo.latency.p95_ms for slo in found)),
        ("slow_p99", 0.01, min(slo.latency.p99_ms for slo in found)),
    ):
        timed = f"sum(rate({sources.TIMES}_count{{{edge}}}[WINDOW]))"
        slow = f"{timed} - sum(rate({_bucket(limit)}[WINDOW]))"
        one.append(Objective(name, share, DAY, slow, timed, f"slower than {limit:g} ms"))
    return one


def _bucket(limit: float) -> str:
    return f'{sources.TIMES}_bucket{{{sources.EDGE},le="{limit:g}"}}'


def _edge_records(slos: Iterable[Slo], pace: float) -> list[Rule]:
    quantile = f"sum by (le) (rate({sources.TIMES}_bucket{{{sources.EDGE}}}[{span(5 * MINUTE, pace)}]))"
    quantiles = [
        {"record": f"titrate:edge_duration_ms:p{q}", "expr": f"histogram_quantile(0.{q}, {quantile})"}
        for q in (50, 95, 99)
    ]
    return [record for one in objectives(slos) for record in one.records(pace)] + quantiles


def _edge_alerts(slos: Iterable[Slo], pace: float) -> list[Rule]:
    found = list(slos)
    limit, minutes = min(s.latency.p99_ms for s in found), min(s.alert_minutes.latency for s in found)
    alerts = [alert for one in objectives(found) for alert in _burn_alerts(one, pace)]
    alerts.append(
        _alert(
            "TitrateLatencyHigh",
            f"titrate:edge_duration_ms:p95 > {limit:g}",
            (minutes * MINUTE, pace),
            (TICKET, SRE),
            f'95th percentile of the edge is {{{{ $value | printf "%.0f" }}}} ms, above {limit:g} ms',
        )
    )
    traffic = f"sum(increase({sources.TIMES}_count{{{sources.EDGE}}}[{span(HOUR, pace)}])) > 0"
    alerts += [
        _alert(
            "TitrateLimitNotCounted",
            " or ".join(f"(absent({_bucket(edge)}) and on () ({traffic}))" for edge in _limits(found)),
            (10 * MINUTE, pace),
            (TICKET, SRE),
            "Envoy's histogram has no bound at {{ $labels.le }} ms: what is slower is not counted",
        ),
        _alert(
            "TitrateModelNotReady",
            f"max({sources.READY}) == 0",
            (2 * MINUTE, pace),
            (PAGE, SRE),
            "No gateway has reached a ready model",
        ),
        _alert(
            "TitrateTargetDown",
            'up{job=~"titrate.*"} == 0',
            (3 * MINUTE, pace),
            (TICKET, SRE),
            "{{ $labels.job }} on {{ $labels.instance }} does not answer Prometheus",
        ),
    ]
    return alerts


def _limits(slos: list[Slo]) -> list[float]:
    return [min(s.latency.p95_ms for s in slos), min(s.latency.p99_ms for s in slos)]


def _burn_alerts(one: Objective, pace: float) -> list[Rule]:
    found = []
    for burn in BURNS[one.period]:
        rate = burn.rate(one.period)
        limit = f"{rate * one.share:.6g}"
        expr = (
            f"{one.ratio(burn.long)} > {limit} and {one.ratio(burn.short)} > {limit}"
            f" and {one.bad_requests(burn.long, pace)} >= {MIN_BAD}"
        )
        text = (
            f"{{{{ $value | humanizePercentage }}}} of the requests of {span(burn.long)} were {one.text}: "
            f"{rate:g} times what is allowed over {span(one.period)}"
        )
        rule = _alert(one.alert, expr, (0, pace), (burn.severity, SRE), text)
        rule["labels"]["window"] = span(burn.long)
        found.append(rule)
    return found


def _budget(slo: Slo, pace: float) -> list[Rule]:
    errors = objectives([slo])[0]
    month, bad = span(MONTH, pace), f'envoy_response_code_class="5",{sources.EDGE}'
    ratio = (
        f"sum(rate({sources.REQUESTS}{{{bad}}}[{month}])) / sum(rate({sources.REQUESTS}{{{sources.EDGE}}}[{month}]))"
    )
    return [{"record": "titrate:edge_errors:budget_left30d", "expr": f"1 - ({ratio}) / {errors.share:g}"}]


def _workload_records(workload: str, slo: Slo, pace: float) -> list[Rule]:
    labels, mine = {"workload": workload}, f'{sources.PREDICTIONS}{{model="{workload}"}}'
    hours = slo.drift.window_hours
    outcomes = f'sum(increase({sources.OUTCOMES}{{workload="{workload}"OUTCOME}}[{span(hours * HOUR, pace)}]))'
    right, every = outcomes.replace("OUTCOME", ',outcome="right"'), outcomes.replace("OUTCOME", "")
    accuracy = f"({right} or 0 * {every}) / ({every} >= {slo.drift.min_events})"
    found: list[Rule] = [
        {"record": "titrate:accuracy:ratio", "expr": accuracy},
        {"record": "titrate:predictions:rate5m", "expr": f"sum(rate({mine}[{span(5 * MINUTE, pace)}]))"},
    ]
    for of, ago in (("day", DAY), ("week", WEEK)):
        # An hour around the same time of that day; nothing while it is not whole: a part of it would look like less.
        began = f"sum({mine} offset {span(ago + HOUR / 2, pace)})"
        usual = f"sum(rate({mine}[{span(HOUR, pace)}] offset {span(ago - HOUR / 2, pace)})) and {began}"
        found.append({"record": "titrate:predictions:usual", "expr": usual, "labels": {"of": of}})
    return [{**rule, "labels": {**labels, **rule.get("labels", {})}} for rule in found]


def _workload_alerts(workload: str, slo: Slo, pace: float) -> list[Rule]:
    me = f'workload="{workload}"'
    accuracy, minutes = slo.accuracy, slo.alert_minutes
    rate, usual = f"titrate:predictions:rate5m{{{me}}}", f"titrate:predictions:usual{{{me}}}"
    now = f'(sum(rate({sources.PREDICTIONS}{{model="{workload}"}}[{span(5 * MINUTE, pace)}])) or vector(0))'
    least = f"{MIN_USUAL / (5 * MINUTE / pace):.6g}"
    dropped = f'{sources.EVENTS}{{model="{workload}",result=~"dropped|shed"}}'
    day, mine = span(slo.drift.window_hours * HOUR, pace), f'{sources.PREDICTIONS}{{model="{workload}"}}'
    series = f"titrate:accuracy:ratio{{{me}}}"
    percent = "{{ $value | humanizePercentage }}"
    made = [
        (
            "TitrateAccuracyLow",
            f"{series} < {accuracy.alert:g}",
            minutes.accuracy,
            (PAGE, ML),
            f"{percent} of the labelled predictions are right, fewer than {accuracy.alert:.0%}",
        ),
        (
            "TitrateAccuracyBelowGate",
            f"{series} >= {accuracy.alert:g} < {accuracy.gate:g}",
            minutes.accuracy,
            (TICKET, ML),
            f"{percent} of the labelled predictions are right; a new release would need {accuracy.gate:.0%}",
        ),
        (
            "TitrateLabelsMissing",
            f"sum(increase({mine}[{day}])) >= {slo.drift.min_events} unless "
            f'(sum(increase({sources.LABELS}{{result="stored"}}[{day}])) > 0)',
            60,
            (TICKET, ML),
            "No label has come in: accuracy is unknown, not good",
        ),
        (
            "TitrateDrift",
            f"max by (workload) ({sources.DRIFT}{{{me}}}) > {slo.drift.retrain:g}",
            minutes.drift,
            (TICKET, DATA),
            f'Drift score {{{{ $value | printf "%.2f" }}}}, above {slo.drift.retrain:g}',
        ),
        (
            "TitrateVolumeHigh",
            f"{rate} > {slo.volume.high:g} * max by (workload) ({usual}) and {rate} >= {least}",
            minutes.volume,
            (TICKET, SRE),
            f"More than {slo.volume.high:g} times the usual predictions",
        ),
        (
            "TitrateVolumeLow",
            f"{now} < on () (min({usual}) >= {least}) * {slo.volume.low:g}",
            minutes.volume,
            (TICKET, SRE),
            f"Less than {slo.volume.low:g} of the usual predictions",
        ),
        (
            "TitrateMemoryHigh",
            f'max(sum by (instance) ({sources.MEMORY}{{model="{workload}"}})) > {slo.memory_mb * 2**20:.0f}',
            10,
            (TICKET, SRE),
            f"A model server holds {{{{ $value | humanize1024 }}}}B, above {slo.memory_mb:g} MiB",
        ),
        (
            "TitrateEventsDropped",
            f"sum(increase({dropped}[{span(15 * MINUTE, pace)}])) > 0",
            15,
            (TICKET, SRE),
            "Sampled events are dropped: drift and quality see less than they should",
        ),
        (
            "TitrateRetrainingFailed",
            f"increase({sources.RETRAIN_FAILURES}{{{me}}}[{span(HOUR, pace)}]) > 0",
            0,
            (TICKET, ML),
            "A retraining run failed",
        ),
        (
            "TitrateRetrainingLate",
            f"time() - {sources.RETRAIN_PENDING}{{{me}}} > {RETRAIN_LIMIT / pace:.0f}",
            0,
            (TICKET, ML),
            f"A trigger is older than {span(RETRAIN_LIMIT)} and its release does not serve yet",
        ),
    ]
    return [_alert(name, expr, (wait * MINUTE, pace), who, text, workload) for name, expr, wait, who, text in made]


def _alert(
    name: str, expr: str, wait: tuple[float, float], who: tuple[str, str], text: str, workload: str = ""
) -> Rule:
    """One alert; `wait` is (seconds, pace), `who` is (severity, team)."""
    labels = {"severity": who[0], "team": who[1]} | ({"workload": workload} if workload else {})
    annotations = {"summary": text, "runbook_url": f"{RUNBOOK}#{name.lower()}"}
    held = {"for": span(*wait)} if wait[0] else {}
    return {"alert": name, "expr": expr, **held, "labels": labels, "annotations": annotations}
