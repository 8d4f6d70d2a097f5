"""The story of one rollout as an HTML file that needs nothing else, from its decision log alone."""

from itertools import pairwise
from math import log
from pathlib import Path
from typing import Any, NamedTuple

from core import audit
from core.pages import template
from serving.rollout import decision_log
from serving.rollout.spec import RolloutSpec

POINTS = 400
"""Looks drawn; of a longer rollout every n-th, and each one that changed something."""
WIDTH, HEIGHT = 900, 220
"""Of a chart, in its own units."""
LINES = 8
"""Metrics drawn: those that came closest to rolling back."""


class Line(NamedTuple):
    """One line of a chart."""

    name: str
    points: str
    """SVG: `x,y x,y`."""
    dashed: bool = False


class Change(NamedTuple):
    """One thing that happened."""

    at: str
    seconds: float
    what: str
    reason: str


def timeline_html(path: Path) -> str:
    """The whole page. Raises PermanentError when a line of the log was changed."""
    spec, _ = decision_log.opened(path)
    looks = audit.read(path)[1:]
    start = looks[0]["observation"]["at"] if looks else 0.0
    times = [look["observation"]["at"] - start for look in looks]
    changes = _changes(looks, times)
    drawn = _thinned(looks, {change.seconds for change in changes}, times)
    span = max(times[-1], 1.0) if times else 1.0
    return template(Path(__file__), "timeline.html.jinja").render(
        spec=spec,
        rollout=looks[-1]["rollout"] if looks else "",
        end=looks[-1]["phase"].replace("_", " ") if looks else "not begun",
        reason=looks[-1]["reason"] if looks else "",
        began=looks[0]["at"] if looks else "",
        seconds=span,
        weights=_weights(drawn, span),
        harm=_evidence(spec, drawn, span, harm=True),
        good=_evidence(spec, drawn, span, harm=False),
        changes=changes,
        final=_final(spec, looks[-1]) if looks else [],
        width=WIDTH,
        height=HEIGHT,
    )


def _changes(looks: list[dict[str, Any]], times: list[float]) -> list[Change]:
    """Every look in which the phase, the step or a verdict of the engine changed, and every command."""
    found: list[Change] = []
    before: tuple[str, int] = ("", -1)
    for look, seconds in zip(looks, times, strict=True):
        told = [f"{c['name']} by {c['by']}" for c in look["observation"].get("commands", [])]
        told += [f"{v['question']}: {v['outcome']}" for v in look["verdicts"] if v["outcome"] in ("fail", "error")]
        now = (look["phase"], look["step"])
        if now != before:
            step = f", step {look['step'] + 1}" if look["step"] >= 0 else ""
            dose = look["intended"]
            share = f"{dose['shadow']} % copied" if dose["shadow"] else f"weight {dose['candidate']} %"
            told.append(f"{look['phase'].replace('_', ' ')}{step}: {share}")
        reasons = [v["reason"] for v in look["verdicts"] if v["outcome"] in ("fail", "error")]
        if told:
            found.append(Change(look["at"], seconds, "; ".join(told), "; ".join(reasons)))
        before = now
    return found


def _thinned(looks: list[dict[str, Any]], kept: set[float], times: list[float]) -> list[tuple[float, dict[str, Any]]]:
    every = max(1, len(looks) // POINTS)
    pairs = enumerate(zip(times, looks, strict=True))
    return [(t, look) for i, (t, look) in pairs if i % every == 0 or t in kept or i == len(looks) - 1]


def _weights(drawn: list[tuple[float, dict[str, Any]]], span: float) -> list[Line]:
    """Intended and observed weight of the candidate, and the mirrored share, percent."""
    seen = [(t, (look["observed"] or {}).get("weights")) for t, look in drawn]
    return [
        Line("intended", _steps([(t, look["intended"]["candidate"] / 100) for t, look in drawn], span)),
        Line(
            "in force", _steps([(t, weights["candidate"] / 100) for t, weights in seen if weights], span), dashed=True
        ),
        Line("mirrored", _steps([(t, look["intended"]["shadow"] / 100) for t, look in drawn], span)),
    ]


def _evidence(spec: RolloutSpec, drawn: list[tuple[float, dict[str, Any]]], span: float, *, harm: bool) -> list[Line]:
    """Evidence as a part of its limit, by metric: of harm, or for promotion."""
    limits = _limits(spec, harm=harm)
    column = 0 if harm else 1
    parts = {
        name: [(t, look["evidence"][name][column] / limit) for t, look in drawn if name in look["evidence"]]
        for name, limit in limits.items()
    }
    height = {name: max((y for _, y in part), default=0.0) for name, part in parts.items()}
    closest = sorted(parts, key=lambda name: height[name], reverse=True)[:LINES]
    return [Line(name, _points(parts[name], span)) for name in closest if height[name] > 0]


def _limits(spec: RolloutSpec, *, harm: bool) -> dict[str, float]:
    judge = spec.questions.judge
    if harm:
        return {question.name: -log(judge.alpha_of(question)) for question in judge.metrics}
    return {question.name: -log(judge.alpha_promote) for question in judge.metrics if not question.guard}


def _points(values: list[tuple[float, float]], span: float) -> str:
    """SVG points; 0 at the bottom, the limit (1) a fifth below the top."""
    scaled = ((t, min(max(y, 0.0), 1.2) / 1.2) for t, y in values)
    return " ".join(f"{WIDTH * t / span:.1f},{HEIGHT * (1 - y):.1f}" for t, y in scaled)


def _steps(values: list[tuple[float, float]], span: float) -> str:
    """The same for something that jumps: each value holds until the next."""
    corners = [pair for (_, old), (t, new) in pairwise(values) for pair in ((t, old), (t, new))]
    return _points([*values[:1], *corners], span)


def _final(spec: RolloutSpec, look: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(metric, harm of its limit, good of its limit, outcome) at the last look."""
    harm, good = _limits(spec, harm=True), _limits(spec, harm=False)
    return [
        (
            name,
            f"{max(values[0], 0):.2f} of {harm[name]:.2f}",
            f"{max(values[1], 0):.2f} of {good[name]:.2f}" if name in good else "",
            values[2],
        )
        for name, values in look["evidence"].items()
    ]
