"""What the objectives allow, as a table: minutes of outage, and when which alert says that they are used up (X12)."""

from core.slo import Slo
from titrate.observability.rules import Objective, objectives
from titrate.observability.spans import BURNS, MINUTE, span

MTTR_MINUTES = 30
"""Time to repair that is asked for (I09)."""


def budget_page(slos: dict[str, Slo]) -> str:
    """Markdown."""
    parts = [
        "# Error budgets",
        "",
        "Made from `workloads/*/slo.yaml` by `make observability`; do not edit.",
        "",
        "| objective | allowed share | period | budget as a full outage | incidents of the asked 30 min |",
        "|---|---|---|---|---|",
    ]
    found = objectives(slos.values())
    parts += [_row(one) for one in found]
    parts += [
        "",
        "An incident that fails every request for the asked time to repair (30 min) uses up what the last column "
        "divides: with 99.9 % over 30 days there is room for one such incident a month, not for two.",
        "",
        "| alert | burns | long / short window | budget gone when it fires | after a full outage of | severity |",
        "|---|---|---|---|---|---|",
    ]
    parts += [line for one in found for line in _burns(one)]
    return "\n".join(parts) + "\n"


def _row(one: Objective) -> str:
    minutes = one.share * one.period / MINUTE
    return f"| {one.text} | {one.share:.4g} | {span(one.period)} | {minutes:.1f} min | {minutes / MTTR_MINUTES:.2g} |"


def _burns(one: Objective) -> list[str]:
    """A full outage passes a limit after limit x window seconds; the long window is the last one to see it."""
    lines = []
    for burn in BURNS[one.period]:
        rate = burn.rate(one.period)
        after = rate * one.share * burn.long
        lines.append(
            f"| `{one.alert}` | {rate:g} x | {span(burn.long)} / {span(burn.short)} | {burn.spent:.0%} | "
            f"{after / MINUTE:.1f} min | {burn.severity} |"
        )
    return lines
