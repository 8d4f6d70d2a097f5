"""The real Triton against the suite: what it does otherwise is written down, case by case, and nothing else.

`triton_2_51.json` holds the differences of this version. A difference that is new, or gone, fails here.
"""

import json
from functools import cache
from pathlib import Path

import pytest

from tests.conformance.__main__ import all_cases, examine
from tests.conformance.case import Finding, Outcome
from tests.conformance.identity import MODELS, Server

KNOWN: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "triton_2_51.json").read_text())


@pytest.fixture(scope="module")
def findings(triton: Server) -> dict[str, list[Finding]]:
    """The findings of each identity model."""
    url, target = f"http://127.0.0.1:{triton.ports.http}", f"127.0.0.1:{triton.ports.grpc}"
    return {model: examine(url, target, model, revive=triton.restart) for model in MODELS}


def named(findings: list[Finding], outcome: Outcome) -> set[tuple[str, str]]:
    """Section and name of the cases with this outcome."""
    return {(f.case.section.title, f.case.name) for f in findings if f.outcome is outcome}


@cache
def known() -> set[tuple[str, str]]:
    """Section and name of the known differences."""
    return {(section, name) for section, names in KNOWN.items() for name in names}


def test_names_are_unique_within_their_section() -> None:
    names = [(case.section.title, case.name) for case in all_cases()]
    assert len(names) == len(set(names)) >= 120


@pytest.mark.parametrize("model", MODELS)
def test_triton_differs_only_where_it_is_known_to(findings: dict[str, list[Finding]], model: str) -> None:
    unknown = named(findings[model], Outcome.FAIL) - known()
    assert not unknown, [f.detail for f in findings[model] if (f.case.section.title, f.case.name) in unknown]


def test_every_known_difference_is_still_there(findings: dict[str, list[Finding]]) -> None:
    assert known() <= set().union(*(named(found, Outcome.FAIL) for found in findings.values()))


def test_every_case_applies_to_one_of_the_models_or_to_no_triton(findings: dict[str, list[Finding]]) -> None:
    """FP16 in JSON is the one thing that this server refuses as the protocol lets it."""
    never = set.intersection(*(named(found, Outcome.NOT_APPLICABLE) for found in findings.values()))
    assert {name.split(":")[0] for _, name in never} == {"FP16"}
