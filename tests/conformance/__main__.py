"""`python -m tests.conformance URL [--grpc HOST:PORT] [--model NAME]`: run every case against a server.

Exit code 0: no differences; 1: differences; 2: the server or model cannot be tested.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from core.errors import UserError
from core.files import write_atomic
from tests.conformance.case import Case, Difference, Finding, Outcome, run
from tests.conformance.cases import (
    grpc_calls,
    grpc_errors,
    rest_binary,
    rest_binary_errors,
    rest_datatypes,
    rest_errors,
    rest_health,
    rest_http,
    rest_inference,
    rest_metadata,
    rest_shapes,
)
from tests.conformance.report import document, table
from tests.conformance.rest import Rest
from tests.conformance.rpc import Rpc
from tests.conformance.subject import discover

MODULES = (
    rest_health,
    rest_metadata,
    rest_inference,
    rest_shapes,
    rest_datatypes,
    rest_errors,
    rest_binary,
    rest_binary_errors,
    rest_http,
    grpc_calls,
    grpc_errors,
)


def all_cases() -> list[Case]:
    """Every case, in the order in which it runs."""
    return [case for module in MODULES for case in module.suite.cases]


def examine(
    url: str,
    target: str = "",
    model: str = "",
    headers: Sequence[str] = (),
    revive: Callable[[], None] = lambda: None,
) -> list[Finding]:
    """The findings of all cases; `headers` are `Name: value`. Raises UserError where the server cannot be tested.

    `revive` is called after a case that the server did not survive.
    """
    pairs = dict(header.split(":", 1) for header in headers)
    sent = {name.strip(): value.strip() for name, value in pairs.items()}
    rest, rpc = Rest(url, sent), Rpc(target, sent) if target else None
    try:
        subject = discover(rest, rpc, model or only_model(rest))
        return list(run(all_cases(), subject, revive))
    finally:
        if rpc:
            rpc.close()


def only_model(rest: Rest) -> str:
    """The one model that the model repository extension lists; raises UserError where it does not list one."""
    reply = rest.send("POST", "/v2/repository/index", b"{}", {"Content-Type": "application/json"})
    names = [entry["name"] for entry in reply.json()] if reply.status == 200 else []
    if len(names) != 1:
        listed = ", ".join(sorted(names)) or f"no list ({reply.status})"
        raise UserError(f"name the model to test (--model, MODEL=): the server has {listed}")
    return str(names[0])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser("python -m tests.conformance", description=__doc__)
    command.add_argument("url", help="http://host:port, with a path where the protocol is below one")
    command.add_argument("--grpc", default="", metavar="HOST:PORT", help="without it, gRPC is not applicable")
    command.add_argument("--model", default="", help="may be left out where the server lists one model")
    command.add_argument("--header", action="append", default=[], metavar="NAME:VALUE", help="sent with every request")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON as well")
    return command


def main() -> int:
    """Run, print, and return the exit code."""
    asked = parser().parse_args()
    try:
        findings = examine(asked.url, asked.grpc, asked.model, asked.header)
    except (UserError, Difference, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(findings))
    if asked.json:
        write_atomic(asked.json, document(findings).encode())
    return int(any(f.outcome is Outcome.FAIL for f in findings))


if __name__ == "__main__":
    sys.exit(main())
