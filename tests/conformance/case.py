"""A case: one sentence that holds for a conforming server, the text it comes from, and a function that looks.

The function returns when the sentence holds, raises `Difference` when it does not, and `NotApplicable`, with the
reason, when this server or model cannot show it either way: such a case is reported, never dropped.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from tests.conformance.specification import Section

if TYPE_CHECKING:
    from tests.conformance.subject import Subject

T = TypeVar("T")
PATIENCE_SECONDS = 30.0
Check = Callable[["Subject"], None]
Register = Callable[[Callable[["Subject", T], None]], Callable[["Subject", T], None]]


class Outcome(StrEnum):
    """What was found."""

    PASS = "pass"
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"


class Difference(Exception):  # noqa: N818 - an outcome of a case, not an error of this program
    """The server does something else than the text says; the message has what was expected and what came back."""


class NoAnswer(Difference):
    """The server let the request hang, or dropped the connection."""


class NotApplicable(Exception):  # noqa: N818 - an outcome of a case, not an error of this program
    """The case cannot be shown with this server or model; the message says why."""


@dataclass(frozen=True)
class Case:
    """One sentence, its source and its check."""

    section: Section
    name: str
    check: Check


@dataclass(frozen=True)
class Finding:
    """The outcome of one case; `detail` is empty when it passed."""

    case: Case
    outcome: Outcome
    detail: str
    seconds: float


@dataclass
class Suite:
    """The cases of one module, in the order in which they are written."""

    cases: list[Case] = field(default_factory=list)

    def case(self, section: Section, name: str) -> Callable[[Check], Check]:
        """Register a function as the check of one case."""

        def register(check: Check) -> Check:
            self.cases.append(Case(section, name, check))
            return check

        return register

    @overload
    def each(self, section: Section, name: str, values: Mapping[str, T]) -> "Register[T]": ...

    @overload
    def each(self, section: Section, name: str, values: Sequence[T]) -> "Register[T]": ...

    def each(self, section: Section, name: str, values: Any) -> "Register[Any]":
        """Register a function once per value; `{}` in the name is the value, or its key where `values` is a mapping."""
        known = list(values.items()) if isinstance(values, Mapping) else [(value, value) for value in values]

        def register(check: Callable[["Subject", Any], None]) -> Callable[["Subject", Any], None]:
            for key, value in known:
                self.cases.append(Case(section, name.format(key), partial(with_value, check, value)))
            return check

        return register


def with_value(check: Callable[["Subject", T], None], value: T, subject: "Subject") -> None:
    """Run a check that is registered once per value."""
    check(subject, value)


def expect(condition: object, message: str) -> None:
    """Raise `Difference` unless the condition holds."""
    if not condition:
        raise Difference(message)


def judge(case: Case, subject: "Subject") -> Finding:
    """Run one case. An answer that the suite cannot read (ValueError, KeyError, TypeError) is a difference too."""
    start = time.monotonic()
    outcome, detail = Outcome.PASS, ""
    try:
        case.check(subject)
    except NotApplicable as reason:
        outcome, detail = Outcome.NOT_APPLICABLE, str(reason)
    except (Difference, ValueError, KeyError, TypeError) as difference:
        name = "" if isinstance(difference, Difference) else f"{type(difference).__name__}: "
        outcome, detail = Outcome.FAIL, name + str(difference)
    return Finding(case, outcome, detail, time.monotonic() - start)


def run(cases: Iterable[Case], subject: "Subject", revive: Callable[[], None] = lambda: None) -> Iterator[Finding]:
    """The findings, case by case. After each the server must still answer; one that does not come back fails the rest.

    `revive` is called where the server stopped answering: whoever started it may start it again.
    """
    culprit = ""
    for case in cases:
        if culprit:
            yield Finding(case, Outcome.FAIL, f"not run: the server did not come back after {culprit!r}", 0.0)
            continue
        finding = judge(case, subject)
        if not subject.alive():
            revive()
            culprit = "" if back(subject) else case.name
            detail = f"{finding.detail}; " if finding.detail else ""
            finding = replace(finding, outcome=Outcome.FAIL, detail=f"{detail}the server stopped answering")
        yield finding


def back(subject: "Subject") -> bool:
    """Whether the server answers again, within the time that a supervisor needs for a restart."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if subject.alive():
            return True
        time.sleep(0.1)
    return False
