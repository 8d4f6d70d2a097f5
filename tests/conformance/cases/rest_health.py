"""Health: what a probe of Kubernetes asks.

The two texts of the protocol differ about the body: the open inference protocol describes an object, KServe's text says
that the body should be empty. Both are accepted, and nothing else.
"""

from tests.conformance.case import Suite, expect
from tests.conformance.rest import Reply
from tests.conformance.specification import HEALTH
from tests.conformance.subject import Subject

suite = Suite()


def says(reply: Reply, member: str) -> bool:
    """What the reply says about a state: its status, and the member of its object if it has a body."""
    if not reply.body or reply.status != 200:
        return reply.status == 200
    value = reply.json().get(member, reply.json().get("live"))  # the text names the member of `ready` "live"
    expect(type(value) is bool, f"{member!r} is no boolean: {reply}")
    return bool(value)


def not_ready(reply: Reply) -> None:
    """200 says yes and 4xx says no (KServe's text); an object with `ready: false` says no as well."""
    expect(reply.status == 200 or 400 <= reply.status < 500, f"expected 4xx, got {reply}")
    expect(not says(reply, "ready"), f"ready, although it does not exist: {reply}")


@suite.case(HEALTH, "a live server is live")
def live(subject: Subject) -> None:
    reply = subject.rest.get("/v2/health/live")
    expect(says(reply, "live"), f"expected 200, got {reply}")


@suite.case(HEALTH, "a ready server is ready")
def ready(subject: Subject) -> None:
    reply = subject.rest.get("/v2/health/ready")
    expect(says(reply, "ready"), f"expected 200, got {reply}")


@suite.case(HEALTH, "a loaded model is ready")
def model_ready(subject: Subject) -> None:
    reply = subject.rest.get(f"{subject.path}/ready")
    expect(says(reply, "ready"), f"expected 200, got {reply}")
    if reply.body:
        expect(reply.json().get("name") == subject.model, f"the object names another model: {reply}")


@suite.case(HEALTH, "a version of the model is ready")
def version_ready(subject: Subject) -> None:
    reply = subject.rest.get(f"{subject.path}/versions/{subject.version()}/ready")
    expect(says(reply, "ready"), f"expected 200, got {reply}")


@suite.case(HEALTH, "an unknown model is not ready")
def unknown_model(subject: Subject) -> None:
    not_ready(subject.rest.get("/v2/models/no-such-model/ready"))


@suite.case(HEALTH, "an unknown version is not ready")
def unknown_version(subject: Subject) -> None:
    not_ready(subject.rest.get(f"{subject.path}/versions/987654/ready"))


@suite.case(HEALTH, "health does not change state: twenty probes give one answer")
def stable(subject: Subject) -> None:
    replies = {subject.rest.get("/v2/health/ready").status for _ in range(20)}
    expect(replies == {200}, f"statuses {sorted(replies)}")


@suite.each(HEALTH, "an unknown path below v2 is refused: {}", ("/v2/nothing", "/v2/models", "/v2/health/nothing"))
def unknown_path(subject: Subject, path: str) -> None:
    reply = subject.rest.send("POST", path, b"{}", {"Content-Type": "application/json"})
    expect(400 <= reply.status < 500, f"expected 4xx, got {reply}")
