"""What was found: a table by section of the specification, and the same as JSON for comparing servers."""

import json
from collections.abc import Sequence

from tests.conformance.case import Finding, Outcome

MARKS = {Outcome.PASS: "pass", Outcome.FAIL: "FAIL", Outcome.NOT_APPLICABLE: "n/a "}


def sections(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """The findings by title of the section, in the order of their first case."""
    grouped: dict[str, list[Finding]] = {}
    for finding in findings:
        grouped.setdefault(finding.case.section.title, []).append(finding)
    return grouped


def count(findings: Sequence[Finding], outcome: Outcome) -> int:
    """How many of the findings have this outcome."""
    return sum(f.outcome is outcome for f in findings)


def table(findings: Sequence[Finding]) -> str:
    """Every case under its section, then one row of counts per section."""
    lines = []
    for title, found in sections(findings).items():
        lines += ["", f"{title}  <{found[0].case.section.link}>"]
        for finding in found:
            detail = f": {finding.detail}" if finding.detail else ""
            lines.append(f"  {MARKS[finding.outcome]}  {finding.case.name}{detail}")
    return "\n".join([*lines, "", summary(findings)])


def summary(findings: Sequence[Finding]) -> str:
    """One row of counts per section, and their sum."""
    rows = [(title, found) for title, found in sections(findings).items()] + [("all", list(findings))]
    width = max(len(title) for title, _ in rows)
    head = f"{'section':{width}}  cases  pass  fail  not applicable"
    body = [
        f"{title:{width}}  {len(found):5}  {count(found, Outcome.PASS):4}  {count(found, Outcome.FAIL):4}  "
        f"{count(found, Outcome.NOT_APPLICABLE):14}"
        for title, found in rows
    ]
    return "\n".join([head, *body])


def document(findings: Sequence[Finding]) -> str:
    """The findings as a JSON list of `section`, `link`, `name`, `outcome`, `detail`."""
    rows = [
        {
            "section": f.case.section.title,
            "link": f.case.section.link,
            "name": f.case.name,
            "outcome": f.outcome.value,
            "detail": f.detail,
        }
        for f in findings
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
