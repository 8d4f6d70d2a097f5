"""Requests that cannot be answered: each is refused with an error object, and the server goes on."""

from tests.conformance.case import NotApplicable, Suite, expect
from tests.conformance.inference import refused
from tests.conformance.specification import ERRORS
from tests.conformance.subject import Subject
from tests.conformance.wire import Json

suite = Suite()


@suite.case(ERRORS, "an unknown model is refused")
def unknown_model(subject: Subject) -> None:
    refused(subject.post(subject.message(), path="/v2/models/no-such-model/infer"))


@suite.case(ERRORS, "an unknown version is refused with an error object")
def unknown_version(subject: Subject) -> None:
    refused(subject.post(subject.message(), path=f"{subject.path}/versions/987654/infer"))


@suite.case(ERRORS, "an unknown input in place of a known one is refused")
def unknown_input(subject: Subject) -> None:
    refused(subject.post(subject.message().changed_input(0, name="no_such_input")))


@suite.case(ERRORS, "an unknown input beside the known ones is refused")
def input_too_many(subject: Subject) -> None:
    inputs = subject.message().document["inputs"]
    refused(subject.post(subject.message().changed(inputs=[*inputs, inputs[0] | {"name": "no_such_input"}])))


@suite.case(ERRORS, "the name of an input is case-sensitive")
def input_case(subject: Subject) -> None:
    name = subject.json_view().inputs[0].name
    if name.swapcase() == name:
        raise NotApplicable("the input's name has no letters")
    refused(subject.post(subject.message().changed_input(0, name=name.swapcase())))


@suite.case(ERRORS, "the same input twice is refused")
def duplicate_input(subject: Subject) -> None:
    inputs = subject.message().document["inputs"]
    refused(subject.post(subject.message().changed(inputs=[*inputs, inputs[0]])))


@suite.case(ERRORS, "a missing input is refused")
def missing_input(subject: Subject) -> None:
    inputs = subject.message().document["inputs"]
    if len(inputs) < 2:
        raise NotApplicable("the model has one input")
    reply = subject.post(subject.message().changed(inputs=inputs[1:]))
    if reply.status == 200:
        raise NotApplicable("the model answers without its first input: it is optional")
    refused(reply)


@suite.case(ERRORS, "no inputs are refused")
def no_inputs(subject: Subject) -> None:
    refused(subject.post(subject.message().changed(inputs=[])))


INPUTS: dict[str, Json] = {"an object": {}, "a string": "x", "a list of numbers": [1], "a list of null": [None]}


@suite.each(ERRORS, "inputs that are {} are refused", INPUTS)
def wrong_inputs(subject: Subject, inputs: Json) -> None:
    refused(subject.post(subject.message().changed(inputs=inputs)))


@suite.each(ERRORS, "outputs that are {} are refused", INPUTS)
def wrong_outputs(subject: Subject, outputs: Json) -> None:
    refused(subject.post(subject.message().changed(outputs=outputs)))


@suite.each(ERRORS, "an input without its {} is refused", ("name", "shape", "datatype", "data"))
def missing_member(subject: Subject, member: str) -> None:
    refused(subject.post(subject.message().changed_input(0, **{member: None})))


@suite.each(ERRORS, "data that is {} is refused", {"a string": "1", "a number": 1, "an object": {"0": 1}, "true": True})
def wrong_data(subject: Subject, data: Json) -> None:
    refused(subject.post(subject.message().changed_input(0, data=data)))


TWINS = {"INT8": "UINT8", "INT16": "UINT16", "INT32": "UINT32", "INT64": "UINT64", "FP32": "INT32", "FP64": "INT64"}
TWINS |= {value: key for key, value in TWINS.items() if not key.startswith("FP")} | {"BOOL": "UINT8", "BYTES": "UINT8"}


@suite.each(ERRORS, "{} declared as another datatype of its size is refused", list(TWINS))
def wrong_datatype(subject: Subject, datatype: str) -> None:
    view = subject.json_view()
    tensor = next((t for t in view.inputs if t.datatype == datatype), None)
    if tensor is None:
        raise NotApplicable(f"no {datatype} input can be sent this way")
    refused(subject.post(subject.message().changed_input(view.index(tensor.name), datatype=TWINS[datatype])))


NO_DATATYPES: dict[str, Json] = {
    "unknown": "FLOAT",
    "in lower case": "fp32",
    "empty": "",
    "a number": 32,
    "a list": ["FP32"],
}


@suite.each(ERRORS, "a datatype that is {} is refused", NO_DATATYPES)
def no_datatype(subject: Subject, datatype: Json) -> None:
    refused(subject.post(subject.message().changed_input(0, datatype=datatype)))


@suite.each(ERRORS, "a name that is {} is refused", {"a number": 1, "null": None, "a list": ["x"], "empty": ""})
def wrong_name(subject: Subject, name: Json) -> None:
    message = subject.message()
    message.document["inputs"][0]["name"] = name
    refused(subject.post(message))


@suite.case(ERRORS, "after all this the same request has the same answer")
def unharmed(subject: Subject) -> None:
    subject.json_view().check(subject.infer(subject.message()).tensors)
    expect(subject.rest.get("/v2/health/ready").status == 200, "the server is not ready")
