"""Metadata of server, model and versions."""

from urllib.parse import quote, urlsplit

from tests.conformance.case import NotApplicable, Suite, expect
from tests.conformance.inference import refused
from tests.conformance.rest import Reply
from tests.conformance.specification import MODEL_METADATA, SERVER_METADATA, VERSIONS
from tests.conformance.subject import Subject
from tests.conformance.wire import DATATYPES, Json

suite = Suite()
NO_VERSIONS = ("0", "987654", "-1", "+1", "01", "1.0", "1x", "v1", "18446744073709551617", "9" * 400, "1%20", "%00")
"""Strings that are the name of no version, many of which a careless number parser takes for 1 or for the latest."""


def json_object(reply: Reply) -> Json:
    """The object of a successful GET."""
    expect(reply.status == 200, f"expected 200, got {reply}")
    expect("json" in reply.headers.get("content-type", ""), f"Content-Type {reply.headers.get('content-type')!r}")
    document = reply.json()
    expect(isinstance(document, dict), f"no object: {reply}")
    return document


@suite.case(SERVER_METADATA, "names the server and its version")
def server(subject: Subject) -> None:
    document = json_object(subject.rest.get("/v2"))
    expect(isinstance(document.get("name"), str) and document["name"], f"name {document.get('name')!r}")
    expect(isinstance(document.get("version"), str), f"version {document.get('version')!r}")


@suite.case(SERVER_METADATA, "lists its extensions as strings")
def extensions(subject: Subject) -> None:
    found = json_object(subject.rest.get("/v2")).get("extensions")
    expect(isinstance(found, list) and all(isinstance(e, str) for e in found), f"extensions {found!r}")


@suite.case(SERVER_METADATA, "is found under /v2/ as well, the path of the OpenAPI description")
def trailing_slash(subject: Subject) -> None:
    reply = subject.rest.get("/v2/")
    if reply.status in (301, 302, 307, 308):
        target = urlsplit(reply.headers.get("location", "")).path
        expect(target == f"{subject.rest.prefix}/v2", f"redirected to {target!r}")
        return
    expect(json_object(reply) == json_object(subject.rest.get("/v2")), "another object than /v2")


@suite.case(MODEL_METADATA, "names the model as it was asked for")
def name(subject: Subject) -> None:
    found = json_object(subject.rest.get(subject.path)).get("name")
    expect(found == subject.model, f"name {found!r}")


@suite.case(MODEL_METADATA, "names the platform")
def platform(subject: Subject) -> None:
    found = json_object(subject.rest.get(subject.path)).get("platform")
    expect(isinstance(found, str), f"platform {found!r}")


@suite.case(MODEL_METADATA, "versions, where given, are strings")
def versions(subject: Subject) -> None:
    found = json_object(subject.rest.get(subject.path)).get("versions", [])
    expect(isinstance(found, list) and all(isinstance(v, str) for v in found), f"versions {found!r}")


@suite.each(MODEL_METADATA, "every one of the {} has a name of its own", ("inputs", "outputs"))
def tensor_names(subject: Subject, member: str) -> None:
    found = [t.get("name") for t in json_object(subject.rest.get(subject.path)).get(member, [])]
    expect(found, f"no {member}")
    expect(all(isinstance(n, str) and n for n in found) and len(set(found)) == len(found), f"names {found!r}")


@suite.each(MODEL_METADATA, "every one of the {} has a datatype of the table", ("inputs", "outputs"))
def tensor_datatypes(subject: Subject, member: str) -> None:
    found = [t.get("datatype") for t in json_object(subject.rest.get(subject.path)).get(member, [])]
    expect(found and all(d in DATATYPES for d in found), f"datatypes {found!r}")


@suite.each(MODEL_METADATA, "every one of the {} has a shape of integers, variable ones -1", ("inputs", "outputs"))
def tensor_shapes(subject: Subject, member: str) -> None:
    found = [t.get("shape") for t in json_object(subject.rest.get(subject.path)).get(member, [])]
    good = [isinstance(s, list) and all(type(d) is int and d >= -1 for d in s) for s in found]
    expect(good and all(good), f"shapes {found!r}")


@suite.case(MODEL_METADATA, "an unknown model is refused with an error object")
def unknown_model(subject: Subject) -> None:
    refused(subject.rest.get("/v2/models/no-such-model"))


@suite.case(MODEL_METADATA, "names are case-sensitive")
def case_sensitive(subject: Subject) -> None:
    other = subject.model.swapcase()
    if other == subject.model:
        raise NotApplicable("the model's name has no letters")
    refused(subject.rest.get(f"/v2/models/{quote(other, safe='')}"))


@suite.each(MODEL_METADATA, "a name that climbs is no model: {}", ("..%2f..", "%2e%2e", "a%00b", "a%0d%0ab", "%ff"))
def odd_names(subject: Subject, model: str) -> None:
    reply = subject.rest.get(f"/v2/models/{model}")
    expect(400 <= reply.status < 500, f"expected 4xx, got {reply}")


@suite.case(VERSIONS, "metadata of a version is that of the model")
def version_metadata(subject: Subject) -> None:
    found = json_object(subject.rest.get(f"{subject.path}/versions/{subject.version()}"))
    whole = json_object(subject.rest.get(subject.path))
    expect(all(found.get(k) == whole.get(k) for k in ("name", "inputs", "outputs")), f"differs: {found}")


@suite.case(VERSIONS, "every version listed can be asked for, and the answer names it")
def version_inference(subject: Subject) -> None:
    subject.version()
    for version in subject.versions:
        reply = subject.post(subject.message(), path=f"{subject.path}/versions/{quote(version, safe='')}/infer")
        found = json_object(reply).get("model_version")
        expect(found == version, f"asked for version {version!r}, the answer names {found!r}")


@suite.case(VERSIONS, "without a version in the path, the answer names one that is listed")
def chosen_version(subject: Subject) -> None:
    subject.version()
    found = subject.infer(subject.message()).document.get("model_version")
    expect(found in subject.versions, f"model_version {found!r} is not in {subject.versions}")


@suite.each(VERSIONS, "metadata of a version that is not listed is refused: {:.20}", NO_VERSIONS)
def unknown_version(subject: Subject, version: str) -> None:
    unlisted(subject, version)
    reply = subject.rest.get(f"{subject.path}/versions/{version}")
    expect(400 <= reply.status < 500, f"expected 4xx, got {reply}")


@suite.each(VERSIONS, "inference with a version that is not listed is refused: {:.20}", NO_VERSIONS)
def unknown_version_inference(subject: Subject, version: str) -> None:
    unlisted(subject, version)
    reply = subject.post(subject.message(), path=f"{subject.path}/versions/{version}/infer")
    expect(400 <= reply.status < 500, f"expected 4xx, got {reply}")


def unlisted(subject: Subject, version: str) -> None:
    """Not applicable where this name happens to be a version, or where the model has none."""
    if subject.version() and version in subject.versions:
        raise NotApplicable(f"{version!r} is a version of this model")
