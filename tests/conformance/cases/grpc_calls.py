"""gRPC: health, metadata and inference, raw and typed; the answers are those of REST."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tritonclient.grpc import service_pb2

from tests.conformance.case import NotApplicable, Suite, expect
from tests.conformance.rpc import Proto, answer, raw_request, refused, typed_request
from tests.conformance.specification import (
    GRPC_DATATYPES,
    GRPC_HEALTH,
    GRPC_INFERENCE,
    GRPC_METADATA,
    GRPC_PARAMETERS,
)
from tests.conformance.subject import Subject
from tests.conformance.view import View, close
from tests.conformance.wire import CONTENTS, DATATYPES, FLOATS, RAW_BYTES, Array, edges, nonfinite, pages, same, strings

suite = Suite()


def call(subject: Subject, method: str, request: Proto) -> Proto:
    """The response of a call that must succeed."""
    result = subject.grpc().call(method, request)
    expect(result.code == "OK", f"expected OK, got {result}")
    return result.response


def working(subject: Subject, **values: Array) -> Proto:
    """The working request with raw contents."""
    view = subject.raw_view()
    return raw_request(subject.model, view.inputs, view.values | values)


def right(subject: Subject, request: Proto) -> Proto:
    """The response, which must be that to the working request."""
    found = answer(subject.grpc().call("ModelInfer", request))
    subject.raw_view().check(found.tensors)
    return found.document


@suite.case(GRPC_HEALTH, "a live server is live")
def live(subject: Subject) -> None:
    expect(call(subject, "ServerLive", service_pb2.ServerLiveRequest()).live, "live is false")


@suite.case(GRPC_HEALTH, "a ready server is ready")
def ready(subject: Subject) -> None:
    expect(call(subject, "ServerReady", service_pb2.ServerReadyRequest()).ready, "ready is false")


@suite.case(GRPC_HEALTH, "a loaded model is ready")
def model_ready(subject: Subject) -> None:
    request = service_pb2.ModelReadyRequest(name=subject.model)
    expect(call(subject, "ModelReady", request).ready, "ready is false")


@suite.case(GRPC_HEALTH, "a version of the model is ready")
def version_ready(subject: Subject) -> None:
    request = service_pb2.ModelReadyRequest(name=subject.model, version=subject.version())
    expect(call(subject, "ModelReady", request).ready, "ready is false")


UNKNOWN = {"model": ("no-such-model", ""), "version": ("", "987654")}


@suite.each(GRPC_HEALTH, "an unknown {} is not ready, or refused", UNKNOWN)
def unknown_ready(subject: Subject, asked: tuple[str, str]) -> None:
    name, version = asked
    request = service_pb2.ModelReadyRequest(name=name or subject.model, version=version)
    result = subject.grpc().call("ModelReady", request)
    if result.code == "OK":
        expect(not result.response.ready, "ready, although it does not exist")
    else:
        refused(result)


@suite.case(GRPC_METADATA, "server metadata is that of REST")
def server_metadata(subject: Subject) -> None:
    found = call(subject, "ServerMetadata", service_pb2.ServerMetadataRequest())
    told = subject.rest.get("/v2").json()
    expect((found.name, found.version) == (told["name"], told["version"]), f"{found.name!r} {found.version!r}")
    expect(sorted(found.extensions) == sorted(told["extensions"]), f"extensions {list(found.extensions)}")


@suite.case(GRPC_METADATA, "model metadata is that of REST")
def model_metadata(subject: Subject) -> None:
    found = call(subject, "ModelMetadata", service_pb2.ModelMetadataRequest(name=subject.model))
    expect(found.name == subject.model, f"name {found.name!r}")
    expect(tuple(found.versions) == subject.versions, f"versions {list(found.versions)}")
    for told, tensors in ((subject.inputs, found.inputs), (subject.outputs, found.outputs)):
        known = {(t.name, t.datatype, t.shape) for t in told}
        expect({(t.name, t.datatype, tuple(t.shape)) for t in tensors} == known, f"tensors differ: {tensors}")


@suite.case(GRPC_METADATA, "metadata of a version is given")
def version_metadata(subject: Subject) -> None:
    request = service_pb2.ModelMetadataRequest(name=subject.model, version=subject.version())
    expect(call(subject, "ModelMetadata", request).name == subject.model, "another name")


@suite.each(GRPC_METADATA, "metadata of an unknown {} is refused", UNKNOWN)
def unknown_metadata(subject: Subject, asked: tuple[str, str]) -> None:
    name, version = asked
    request = service_pb2.ModelMetadataRequest(name=name or subject.model, version=version)
    refused(subject.grpc().call("ModelMetadata", request))


@suite.case(GRPC_INFERENCE, "names model and version")
def names(subject: Subject) -> None:
    found = right(subject, working(subject))
    expect(found.model_name == subject.model, f"model_name {found.model_name!r}")
    expect(not subject.versions or found.model_version in subject.versions, f"model_version {found.model_version!r}")


@suite.case(GRPC_INFERENCE, "a version can be asked for, and the answer names it")
def version(subject: Subject) -> None:
    request = working(subject)
    request.model_version = subject.version()
    found = right(subject, request)
    expect(found.model_version == subject.version(), f"model_version {found.model_version!r}")


@suite.case(GRPC_INFERENCE, "gives outputs of the metadata's names, datatypes and shapes")
def described(subject: Subject) -> None:
    known = {tensor.name: tensor for tensor in subject.outputs}
    for output in right(subject, working(subject)).outputs:
        tensor = known[output.name]
        expect(output.datatype == tensor.datatype, f"output {output.name!r} is {output.datatype}")
        fits = len(output.shape) == len(tensor.shape)
        fits = fits and all(d in (-1, s) for s, d in zip(output.shape, tensor.shape, strict=True))
        expect(fits, f"output {output.name!r} of {list(tensor.shape)} has shape {list(output.shape)}")


@suite.case(GRPC_INFERENCE, "gives all outputs of the metadata when none is asked for")
def all_outputs(subject: Subject) -> None:
    if len(subject.raw_view().inputs) < len(subject.inputs):
        raise NotApplicable("only some of the inputs are sent")
    missing = {t.name for t in subject.outputs} - {o.name for o in right(subject, working(subject)).outputs}
    expect(not missing, f"missing outputs {sorted(missing)}")


@suite.case(GRPC_INFERENCE, "contents is not specified where the outputs are raw, not even empty")
def raw_only(subject: Subject) -> None:
    found = right(subject, working(subject))
    both = [o.name for o in found.outputs if found.raw_output_contents and o.HasField("contents")]
    expect(not both, f"contents is set in {both}")


@suite.case(GRPC_INFERENCE, "gives the answer that REST gives")
def like_rest(subject: Subject) -> None:
    view = subject.raw_view()
    equal = [v for v in (subject.binary, subject.json) if v and v.inputs == view.inputs and equal_values(v, view)]
    if not equal:
        raise NotApplicable("REST cannot send the same request")
    found = answer(subject.grpc().call("ModelInfer", working(subject))).tensors
    for name in view.expected.keys() & equal[0].expected.keys():
        expect(close(found[name], equal[0].expected[name]), f"output {name!r} differs")


def equal_values(one: View, other: View) -> bool:
    """Whether two views of the same inputs send the same values."""
    return all(same(value, other.values[name]) for name, value in one.values.items())


@suite.case(GRPC_INFERENCE, "gives each output alone when it is asked for alone")
def one_output(subject: Subject) -> None:
    for name in [o.name for o in right(subject, working(subject)).outputs]:
        request = working(subject)
        request.outputs.add(name=name)
        found = [o.name for o in right(subject, request).outputs]
        expect(found == [name], f"asked for {name!r}, got {found}")


@suite.case(GRPC_INFERENCE, "does not depend on the order of the inputs")
def input_order(subject: Subject) -> None:
    view = subject.raw_view()
    if len(view.inputs) < 2:
        raise NotApplicable("the model has one input")
    right(subject, raw_request(subject.model, view.inputs[::-1], view.values))


@suite.case(GRPC_INFERENCE, "forty requests of eight clients each get their own answer")
def concurrent(subject: Subject) -> None:
    def ask(number: int) -> None:
        request = working(subject)
        request.id = f"id-{number}"
        found = right(subject, request)
        expect(found.id == request.id, f"{request.id} was answered as {found.id!r}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(40)))


def echo(subject: Subject, datatype: str, value: Array, typed: bool) -> Array:
    """What comes back for a tensor sent alone, or with the others where the model wants them."""
    view = subject.raw_view()
    tensor, twin = view.echoed(datatype)
    values = view.values | {tensor.name: value}
    if not typed:
        return answer(subject.grpc().call("ModelInfer", raw_request(subject.model, view.inputs, values))).tensors[twin]
    inputs = [t for t in view.inputs if t.datatype in CONTENTS]
    return answer(subject.grpc().call("ModelInfer", typed_request(subject.model, inputs, values))).tensors[twin]


def check_echo(subject: Subject, datatype: str, values: Array, typed: bool = False) -> None:
    """All of `values` come back."""
    for page in pages(values, subject.raw_view().echoed(datatype)[0].shape):
        found = echo(subject, datatype, page, typed)
        expect(same(page, found), f"sent {page.ravel()[:9]!r:.80}, got {found.ravel()[:9]!r:.80}")


@suite.each(GRPC_DATATYPES, "{}: edge values come back from raw contents", list(DATATYPES))
def raw_edges(subject: Subject, datatype: str) -> None:
    check_echo(subject, datatype, edges(datatype))


@suite.each(GRPC_DATATYPES, "{}: edge values come back from typed contents", list(CONTENTS))
def typed_edges(subject: Subject, datatype: str) -> None:
    check_echo(subject, datatype, edges(datatype), typed=True)


@suite.each(GRPC_DATATYPES, "{}: NaN and the infinities come back", FLOATS)
def raw_nonfinite(subject: Subject, datatype: str) -> None:
    check_echo(subject, datatype, nonfinite(datatype))


@suite.each(
    GRPC_DATATYPES, "BYTES: any bytes, empty and long ones, come back from {} contents", {"raw": False, "typed": True}
)
def any_bytes(subject: Subject, typed: bool) -> None:
    check_echo(subject, "BYTES", strings(RAW_BYTES), typed)


@suite.case(GRPC_DATATYPES, "BYTES: one element of 3 MiB comes back")
def long_bytes(subject: Subject) -> None:
    """Below 4 MiB, the usual limit of a gRPC message."""
    check_echo(subject, "BYTES", strings([bytes(range(256)) * 12288]))


@suite.each(GRPC_DATATYPES, "a batch of {} rows is answered in order", (2, 5))
def batch(subject: Subject, count: int) -> None:
    view = subject.raw_view()
    if not subject.max_batch or count > subject.max_batch:
        raise NotApplicable("the model has no batch of this size, or does not say so")
    sent = {name: np.concatenate([value] * count) for name, value in view.values.items()}
    found = answer(subject.grpc().call("ModelInfer", raw_request(subject.model, view.inputs, sent))).tensors
    for name in view.expected:
        expect(close(found[name], np.concatenate([view.expected[name]] * count)), f"output {name!r} differs")


@suite.each(
    GRPC_PARAMETERS, "an id comes back as it was sent: {:.12}", ("42", "r\u00e9ponse-\u6f22-\U0001f48a", "x" * 1000)
)
def identifier(subject: Subject, sent: str) -> None:
    request = working(subject)
    request.id = sent
    found = right(subject, request).id
    expect(found == sent, f"got {found[:40]!r}")


CHOICES = {"a boolean": ("bool_param", True), "an integer": ("int64_param", 7), "a string": ("string_param", "text")}


@suite.each(GRPC_PARAMETERS, "{} as a parameter of request, input and output is no mistake", CHOICES)
def parameters(subject: Subject, choice: tuple[str, object]) -> None:
    request = working(subject)
    request.outputs.add(name=next(iter(subject.raw_view().expected)))
    for holder in (request, request.inputs[0], request.outputs[0]):
        setattr(holder.parameters["conformance"], *choice)
    right(subject, request)
