"""Inference with JSON: the response object, requested outputs, ids and parameters, tensor data in its two layouts."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.conformance.case import NotApplicable, Suite, expect
from tests.conformance.inference import Message, answer, refused
from tests.conformance.rest import Reply
from tests.conformance.specification import INFERENCE, OUTPUTS, PARAMETERS, TENSOR_DATA
from tests.conformance.subject import Subject
from tests.conformance.wire import flat

suite = Suite()
IDS = {
    "digits": "42",
    "letters, marks and a space": "a b/c?d=e&f#g%20\"'<>",
    "beyond ASCII": "r\u00e9ponse-\u6f22-\U0001f48a",
    "1,000 characters": "x" * 1000,
}
PARAMETERS_SENT: dict[str, Any] = {"a string": "text", "an integer": 7, "a float": 0.5, "a boolean": True}


def right(subject: Subject, reply: Reply) -> None:
    """The answer is that to the working request."""
    subject.json_view().check(answer(reply).tensors)


def right_or_refused(subject: Subject, reply: Reply) -> None:
    """The protocol leaves it open whether this is accepted: the right answer, or a refusal."""
    if reply.status == 200:
        subject.json_view().check(answer(reply).tensors)
    else:
        refused(reply)


@suite.case(INFERENCE, "is answered with 200 and a JSON object")
def answered(subject: Subject) -> None:
    reply = subject.post(subject.message())
    expect(reply.status == 200, f"expected 200, got {reply}")
    expect("json" in reply.headers.get("content-type", ""), f"Content-Type {reply.headers.get('content-type')!r}")
    right(subject, subject.post(subject.message()))


@suite.case(INFERENCE, "names the model")
def model_name(subject: Subject) -> None:
    found = subject.infer(subject.message()).document.get("model_name")
    expect(found == subject.model, f"model_name {found!r}")


@suite.case(INFERENCE, "names a version as a string, where versions exist")
def model_version(subject: Subject) -> None:
    found = subject.infer(subject.message()).document.get("model_version")
    expect(isinstance(found, str) or (found is None and not subject.versions), f"model_version {found!r}")


@suite.case(INFERENCE, "gives all outputs of the metadata when none is asked for")
def all_outputs(subject: Subject) -> None:
    if len(subject.json_view().inputs) < len(subject.inputs):
        raise NotApplicable("only some of the inputs can be sent as JSON")
    missing = {tensor.name for tensor in subject.outputs} - subject.infer(subject.message()).tensors.keys()
    expect(not missing, f"missing outputs {sorted(missing)}")


@suite.case(INFERENCE, "gives outputs of the metadata's names, datatypes and shapes")
def described(subject: Subject) -> None:
    known = {tensor.name: tensor for tensor in subject.outputs}
    for output in subject.infer(subject.message()).document["outputs"]:
        tensor = known.get(output["name"])
        expect(tensor is not None, f"output {output['name']!r} is not in the metadata")
        if tensor:
            expect(output["datatype"] == tensor.datatype, f"output {tensor.name!r} is {output['datatype']}")
            fits = len(output["shape"]) == len(tensor.shape) and all(
                d in (-1, s) for s, d in zip(output["shape"], tensor.shape, strict=True)
            )
            expect(fits, f"output {tensor.name!r} of {list(tensor.shape)} has shape {output['shape']}")


@suite.case(INFERENCE, "does not depend on the order of the inputs")
def input_order(subject: Subject) -> None:
    message = subject.message()
    if len(message.document["inputs"]) < 2:
        raise NotApplicable("the model has one input")
    right(subject, subject.post(message.changed(inputs=message.document["inputs"][::-1])))


@suite.case(INFERENCE, "does not depend on the order of the members, nor on white space")
def member_order(subject: Subject) -> None:
    view, document = subject.json_view(), subject.message().changed(id="42").document
    inputs = [dict(reversed(list(entry.items()))) for entry in document["inputs"]]
    text = Message({"id": "42", "inputs": inputs}).body().replace(b', "', b' ,\r\n\t "').replace(b'": ', b'" : ')
    reply = subject.rest.send("POST", f"{subject.path}/infer", text, {"Content-Type": "application/json"})
    view.check(answer(reply).tensors)


@suite.case(INFERENCE, "an unknown member of the request is ignored or refused")
def unknown_member(subject: Subject) -> None:
    right_or_refused(subject, subject.post(subject.message().changed(no_such_member={"a": [1]})))


@suite.case(INFERENCE, "forty requests of eight clients each get their own answer")
def concurrent(subject: Subject) -> None:
    view, message = subject.json_view(), subject.message()

    def ask(number: int) -> None:
        found = subject.infer(message.changed(id=f"id-{number}"))
        expect(found.document.get("id") == f"id-{number}", f"id-{number} was answered as {found.document.get('id')!r}")
        view.check(found.tensors)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(40)))


@suite.case(OUTPUTS, "each output alone is given alone")
def one_output(subject: Subject) -> None:
    names = list(subject.infer(subject.message()).tensors)
    for name in names:
        found = subject.infer(subject.message().changed(outputs=[{"name": name}])).tensors
        expect(list(found) == [name], f"asked for {name!r}, got {list(found)}")
        subject.json_view().check(found)


@suite.case(OUTPUTS, "all outputs asked for by name are given")
def every_output(subject: Subject) -> None:
    names = list(subject.infer(subject.message()).tensors)
    found = subject.infer(subject.message().changed(outputs=[{"name": n} for n in names[::-1]])).tensors
    expect(found.keys() == set(names), f"asked for {sorted(names)}, got {sorted(found)}")


@suite.case(OUTPUTS, "an empty list is all outputs, none, or refused")
def no_output(subject: Subject) -> None:
    reply = subject.post(subject.message().changed(outputs=[]))
    if reply.status != 200:
        refused(reply)
    elif answer(reply).tensors:
        subject.json_view().check(answer(reply).tensors)


@suite.case(OUTPUTS, "an unknown output is refused")
def unknown_output(subject: Subject) -> None:
    refused(subject.post(subject.message().changed(outputs=[{"name": "no_such_output"}])))


@suite.case(OUTPUTS, "the same output twice is answered or refused")
def output_twice(subject: Subject) -> None:
    name = next(iter(subject.json_view().expected))
    reply = subject.post(subject.message().changed(outputs=[{"name": name}] * 2))
    if reply.status != 200:
        refused(reply)
    else:
        expect({o.get("name") for o in reply.json()["outputs"]} == {name}, f"got {reply}")


@suite.case(OUTPUTS, "an output without a name is refused")
def nameless_output(subject: Subject) -> None:
    refused(subject.post(subject.message().changed(outputs=[{}])))


@suite.each(PARAMETERS, "an id comes back as it was sent: {}", IDS)
def identifier(subject: Subject, sent: str) -> None:
    found = subject.infer(subject.message().changed(id=sent)).document.get("id")
    expect(found == sent, f"sent {sent[:40]!r}, got {str(found)[:40]!r}")


@suite.case(PARAMETERS, "an id that is no string is refused or comes back")
def number_as_id(subject: Subject) -> None:
    reply = subject.post(subject.message().changed(id=42))
    if reply.status == 200:
        expect(str(reply.json().get("id")) == "42", f"id {reply.json().get('id')!r}")
    else:
        refused(reply)


@suite.each(PARAMETERS, "{} as a parameter of the request is no mistake", PARAMETERS_SENT)
def request_parameter(subject: Subject, value: Any) -> None:
    right(subject, subject.post(subject.message().changed(parameters={"conformance": value})))


@suite.each(PARAMETERS, "{} as a parameter of an input is no mistake", PARAMETERS_SENT)
def input_parameter(subject: Subject, value: Any) -> None:
    right(subject, subject.post(subject.message().changed_input(0, parameters={"conformance": value})))


@suite.each(PARAMETERS, "{} as a parameter of an output is no mistake", PARAMETERS_SENT)
def output_parameter(subject: Subject, value: Any) -> None:
    names = list(subject.infer(subject.message()).tensors)
    outputs = [{"name": name, "parameters": {"conformance": value}} for name in names]
    right(subject, subject.post(subject.message().changed(outputs=outputs)))


@suite.case(PARAMETERS, "an empty parameters object is no mistake")
def empty_parameters(subject: Subject) -> None:
    right(subject, subject.post(subject.message().changed(parameters={})))


@suite.each(
    PARAMETERS, "parameters that are {} are refused or ignored", {"a list": [1], "a string": "x", "a number": 1}
)
def wrong_parameters(subject: Subject, value: Any) -> None:
    right_or_refused(subject, subject.post(subject.message().changed(parameters=value)))


@suite.case(TENSOR_DATA, "nested and flat data are the same tensor")
def nested(subject: Subject) -> None:
    message = subject.message()
    inputs = [entry | {"data": flat(entry["data"])} for entry in message.document["inputs"]]
    right(subject, subject.post(message))
    right(subject, subject.post(message.changed(inputs=inputs)))


@suite.case(TENSOR_DATA, "data nested otherwise than the shape is the same tensor or refused")
def nested_otherwise(subject: Subject) -> None:
    message = subject.message()
    right_or_refused(
        subject, subject.post(message.changed_input(0, data=[[[flat(message.document["inputs"][0]["data"])]]]))
    )
