"""The verdicts on a dataset: plain counts in, verdicts out. A run goes on only when all pass."""

from collections.abc import Mapping, Sequence

from components.validate.report import Limits
from core.verdict import Outcome, Verdict

NAMED = 8
"""Names that a reason spells out; the rows of the error hold all of them."""


def judge(
    good: int, reasons: Mapping[str, int], classes: Mapping[str, int], leaks: Sequence[tuple[str, str]], limits: Limits
) -> list[Verdict]:
    """The four verdicts, in the order in which a person would put things right."""
    return [_good_rows(good, reasons, limits), _classes(classes, limits), _images(classes, limits), _split(leaks)]


def _good_rows(good: int, reasons: Mapping[str, int], limits: Limits) -> Verdict:
    bad = sum(reasons.values())
    share = good / (good + bad) if good + bad else 0.0
    why = ", ".join(f"{code}: {count}" for code, count in sorted(reasons.items(), key=lambda item: -item[1]))
    return Verdict(
        question=f"good rows >= {limits.good_share:.0%}",
        outcome=_outcome(share >= limits.good_share),
        reason=f"{share:.1%} of {good + bad:,} rows can be used" + (f", {bad:,} cannot ({why})" if bad else ""),
        value=share,
        limit=limits.good_share,
    )


def _classes(classes: Mapping[str, int], limits: Limits) -> Verdict:
    enough = limits.min_classes <= len(classes) <= limits.max_classes
    named = f" ({_names(list(classes))})" if len(classes) < limits.min_classes and classes else ""
    return Verdict(
        question=f"{limits.min_classes} to {limits.max_classes:,} classes",
        outcome=_outcome(enough),
        reason=f"{len(classes):,} with images that can be used{named}",
        value=len(classes),
    )


def _images(classes: Mapping[str, int], limits: Limits) -> Verdict:
    small = [f"{label!r} has {count}" for label, count in classes.items() if count < limits.min_images]
    least = min(classes.values(), default=0)
    reason = f"the smallest class has {least:,}" if not small else f"fewer in {len(small):,}: {_names(small)}"
    return Verdict(
        question=f"images per class >= {limits.min_images}",
        outcome=_outcome(bool(classes) and not small),
        reason=reason,
        value=least,
        limit=limits.min_images,
    )


def _split(leaks: Sequence[tuple[str, str]]) -> Verdict:
    named = [f"{group!r}: {what}" for group, what in leaks]
    return Verdict(
        question="no group on two sides of a given split",
        outcome=_outcome(not leaks),
        reason=f"{len(leaks):,} found: {_names(named)}" if leaks else "none found",
        value=len(leaks),
        limit=0,
    )


def _outcome(passed: bool) -> Outcome:
    return Outcome.PASS if passed else Outcome.FAIL


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
