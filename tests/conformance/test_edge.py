"""The laptop's stack against the suite, as a client meets it: through Envoy, REST and gRPC on one port.

`edge_triton_2_51.json` holds what still differs there. A difference that is new, or gone, fails here.
"""

import json
from pathlib import Path

import pytest

from tests.conformance.__main__ import examine
from tests.conformance.case import Finding, Outcome
from tests.stack_home import Colours
from titrate.stack.control import down, up
from titrate.stack.ports import home_ports
from titrate.stack.state import set_stable

KNOWN: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "edge_triton_2_51.json").read_text())


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """Of a release that names colours."""
    colours = Colours(tmp_path_factory.mktemp("edge"))
    set_stable(colours.home, "pills", colours.releases[0])
    up(colours.home)
    try:
        return examine(colours.url, f"127.0.0.1:{home_ports(colours.home).edge}", "pills")
    finally:
        down(colours.home)


def test_the_stack_differs_only_where_it_is_known_to(findings: list[Finding]) -> None:
    known = {(section, name) for section, names in KNOWN.items() for name in names}
    failed = {(f.case.section.title, f.case.name): f.detail for f in findings if f.outcome is Outcome.FAIL}
    assert {case: detail for case, detail in failed.items() if case not in known} == {}
    assert known <= set(failed), "a known difference is gone: take it off the list"


def test_no_case_ends_the_stack(findings: list[Finding]) -> None:
    assert [f.case.name for f in findings if "dies" in f.detail] == []
