"""Every case can fail: for each there is a lie that it does not believe."""

from collections.abc import Iterator
from dataclasses import replace

import grpc
import pytest
from tritonclient.grpc import service_pb2

from tests.conformance.__main__ import all_cases
from tests.conformance.case import Case, Outcome, judge
from tests.conformance.identity import Server
from tests.conformance.liars import Lie, Proto, grpc_liar, parrot_message, parrot_object, rest_liar
from tests.conformance.rest import Rest
from tests.conformance.rpc import Rpc, raw_request
from tests.conformance.subject import Subject, discover

MODEL = "identity_batched"


@pytest.fixture(scope="module")
def subject(triton: Server) -> Iterator[Subject]:
    """The batched identity model, honestly discovered."""
    rpc = Rpc(f"127.0.0.1:{triton.ports.grpc}", {})
    yield discover(Rest(f"http://127.0.0.1:{triton.ports.http}", {}), rpc, MODEL)
    rpc.close()


def believers(cases: list[Case], subject: Subject) -> set[str]:
    """The cases that pass."""
    return {f"{c.section.title}: {c.name}" for c in cases if judge(c, subject).outcome is Outcome.PASS}


def chosen(prefix: str) -> list[Case]:
    """The cases of one side."""
    return [case for case in all_cases() if case.section.title.startswith(prefix)]


def test_every_rest_case_disbelieves_one_of_three_liars(subject: Subject) -> None:
    truths = [
        subject.rest.get("/v2").json(),
        subject.rest.get(subject.path).json(),
        subject.infer(subject.message()).document,
    ]
    lies = [(200, parrot_object(*truths)), (400, b'{"error": "no"}'), (500, b"oops")]
    believed = []
    for status, body in lies:
        with rest_liar(status, body) as url:
            believed.append(believers(chosen("REST"), replace(subject, rest=Rest(url, {}, timeout=2))))
    assert set.intersection(*believed) == set()
    assert believed[2] == set(), "a case takes 500 for an answer"


def test_every_grpc_case_disbelieves_one_of_three_liars(subject: Subject) -> None:
    answers = recorded(subject)

    def refuse(code: grpc.StatusCode) -> Lie:
        return lambda method, context: context.abort(code, "no")

    lies: list[Lie] = [
        lambda method, context: parrot_message(method, answers),
        refuse(grpc.StatusCode.INVALID_ARGUMENT),
        refuse(grpc.StatusCode.INTERNAL),
    ]
    believed = []
    for lie in lies:
        with grpc_liar(lie) as target:
            rpc = Rpc(target, {}, timeout=2)
            believed.append(believers(chosen("gRPC"), replace(subject, rpc=rpc)))
            rpc.close()
    assert set.intersection(*believed) == set()


def recorded(subject: Subject) -> dict[str, Proto]:
    """One true response per method."""
    view = subject.raw_view()
    requests = {
        "ServerLive": service_pb2.ServerLiveRequest(),
        "ServerReady": service_pb2.ServerReadyRequest(),
        "ModelReady": service_pb2.ModelReadyRequest(name=MODEL),
        "ServerMetadata": service_pb2.ServerMetadataRequest(),
        "ModelMetadata": service_pb2.ModelMetadataRequest(name=MODEL),
        "ModelInfer": raw_request(MODEL, view.inputs, view.values),
    }
    return {method: subject.grpc().call(method, request).response for method, request in requests.items()}
