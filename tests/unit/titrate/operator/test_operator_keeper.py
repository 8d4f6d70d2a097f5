"""A ModelRollout from apply to end: what the operator does with it, and what the resource then says."""

import json
from threading import Event
from types import SimpleNamespace

import httpx
import pytest

from core.errors import UserError
from serving.rollout.cluster.kube import Kube
from serving.rollout.decision_log import iterate
from serving.rollout.routers import gateway_api
from serving.rollout.state import Phase
from tests.api_server import CANDIDATE, NAMESPACE, STABLE, ApiServer
from tests.unit.serving.rollout.world import Inline
from titrate.operator import crd, leader
from titrate.operator.keeper import Keeper
from titrate.operator.leader import NAME, Lease
from titrate.operator.resource import COMMAND
from titrate.operator.wiring import Settings, ports

PLACE = f"/apis/titrate.dev/v1alpha1/namespaces/{NAMESPACE}/modelrollouts"
SPEC = {
    "workload": "pills",
    "candidate": CANDIDATE,
    "steps": [{"weight": w, "bakeSeconds": 4, "minRequests": 50, "deadlineSeconds": 600} for w in (10, 50, 100)],
    "metrics": [{"kind": "compared", "name": "errors", "margin": 0.05, "limit": 0.1}],
    "lookSeconds": 2,
}
NEW = f"pills-{CANDIDATE[:10]}"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(gateway_api, "SETTLES", 0.0)
    monkeypatch.setattr(gateway_api, "PATIENCE", 0.1)


@pytest.fixture
def api():
    return ApiServer()


class Operator:
    """The resources of one operator."""

    def __init__(self, api, root):
        self.api, self.root, self.now, self.keepers = api, root, 1_700_000_000.0, {}
        self.again()

    def again(self):
        """The process died; the next one begins."""
        for keeper in self.keepers.values():
            keeper.close()
        self.keepers = {}
        self.kube = self.api.kube()

    def apply(self, name="next", **changes):
        known = self.api.objects.get(f"{PLACE}/{name}", {"metadata": {"name": name}})
        self.api.put(PLACE, {**known, "kind": "ModelRollout", "spec": {**SPEC, **changes}})

    def keeper(self, name="next"):
        def made(wanted, resource):
            return ports(Settings(root=self.root), self.kube, self.api.http(), wanted, resource)

        if name not in self.keepers:
            self.keepers[name] = Keeper(self.root, self.kube, made, Inline(), lambda: self.now)
        return self.keepers[name]

    def turn(self, name="next"):
        """One turn and the traffic until the next; the status."""
        self.now += self.keeper(name).turn(json.loads(json.dumps(self.api.get(f"modelrollouts/{name}"))))
        if self.api.has("httproutes/pills"):
            self.api.send(400)
        return self.api.get(f"modelrollouts/{name}").get("status", {})

    def condition(self, kind, name="next"):
        found = self.api.get(f"modelrollouts/{name}")["status"]["conditions"]
        return next((c for c in found if c["type"] == kind), None)

    def until(self, phase, name="next"):
        for _ in range(120):
            shown = self.turn(name)
            if shown.get("phase") == phase:
                return shown
        raise AssertionError((phase, shown))


@pytest.fixture
def operator(api, tmp_path):
    here = Operator(api, tmp_path)
    yield here
    here.again()


def test_a_good_candidate_is_promoted_and_everything_says_so(api, operator, tmp_path):
    operator.apply()
    shown = operator.until("promoted")
    assert api.send(100) == {CANDIDATE: 100} and api.send(100, "grpcroutes/pills") == {CANDIDATE: 100}
    assert len(api.get("httproutes/pills")["spec"]["rules"]) == 1
    assert shown["stable"] == STABLE and shown["step"] == "3/3"
    assert operator.condition("Succeeded")["reason"] == "Promoted"
    assert shown.keys() <= crd.schema()["properties"]["status"]["properties"].keys()  # others are dropped
    assert '"kind":"promoted"' in (tmp_path / NAMESPACE / "audit.jsonl").read_text()
    events = [body for place, body in api.objects.items() if "/events/" in place]
    assert {"Promoted"} <= {event["reason"] for event in events}
    log = next(tmp_path.glob("*/*/*/*/decisions.jsonl"))
    assert [one.decision.state.phase for one in iterate(log)][-1] is Phase.PROMOTED


def test_a_failing_candidate_is_rolled_back_and_its_server_removed(api, operator):
    api.failing = {CANDIDATE: 0.3}
    operator.apply()
    shown = operator.until("rolled_back")
    assert "errors" in shown["reason"] and shown["weight"] == 0
    assert operator.condition("Succeeded")["status"] == "False"
    assert api.send(100) == {STABLE: 100}
    assert not api.has(f"inferenceservices/{NEW}") and not api.has(f"services/{NEW}-grpc")


def test_the_next_process_goes_on_with_the_same_rollout(api, operator):
    operator.apply()
    for _ in range(6):
        before = operator.turn()
    operator.again()
    after = operator.turn()
    assert before["rollout"] == after["rollout"] and before["weight"] <= after["weight"]
    assert operator.until("promoted")["rollout"] == before["rollout"]


@pytest.mark.parametrize("lost", [False, True])
def test_a_deletion_restores_stable_also_where_the_log_is_lost(api, operator, tmp_path, lost):
    operator.apply()
    while operator.turn()["weight"] == 0:
        pass
    while CANDIDATE not in api.send(100):
        operator.turn()
    operator.again()
    if lost:
        for log in tmp_path.glob("*/*/*/*/decisions.jsonl"):
            log.unlink()
    resource = api.get("modelrollouts/next")
    assert any(operator.keeper("next").end(resource) for _ in range(10))
    assert api.send(100) == {STABLE: 100}
    assert not api.has(f"inferenceservices/{NEW}")


def test_a_second_rollout_of_the_workload_is_refused_by_name_and_starts_when_the_first_has_ended(api, operator):
    operator.apply()
    operator.turn()
    operator.apply("other", candidate="c" * 64)
    operator.turn("other")
    refused = operator.condition("Accepted", "other")
    assert refused["status"] == "False" and "'next' already moves the traffic of 'pills'" in refused["message"]
    operator.until("promoted")
    operator.turn("other")
    assert operator.condition("Accepted", "other")["status"] == "True"


def test_a_missing_permission_is_named_and_the_rollout_goes_on_when_it_is_given(api, operator):
    operator.apply()
    operator.turn()
    api.denied = {("PUT", "httproutes")}
    for _ in range(4):
        operator.turn()
    condition = operator.condition("Permitted")
    assert condition["status"] == "False" and "cannot put httproutes" in condition["message"]


def test_a_changed_spec_waits_until_the_rollout_has_ended(api, operator):
    operator.apply()
    first = operator.turn()["rollout"]
    operator.apply(candidate="c" * 64)
    operator.turn()
    assert operator.condition("Accepted")["reason"] == "Changed"
    operator.until("promoted")
    operator.turn()
    shown = operator.turn()
    assert shown["candidate"] == "c" * 64 and shown["rollout"] != first


def test_a_command_is_taken_once_and_an_unknown_one_refused(api, operator):
    operator.apply()
    operator.turn()
    for command, status in (("abrot", "False"), ("abort", "True")):
        resource = api.get("modelrollouts/next")
        resource["metadata"]["annotations"] = {COMMAND: command}
        operator.turn()
        assert operator.condition("Commanded")["status"] == status
        assert COMMAND not in api.get("modelrollouts/next")["metadata"]["annotations"]
    operator.until("rolled_back")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"target": {"router": "knative", "inferenceService": "pills-stable"}}, "is deployed in mode"),
        ({"target": {"router": "kserve_canary", "inferenceService": "pills-stable"}}, "version cannot be told"),
        ({"candidate": STABLE}, "same release"),
        ({"slowMs": 777}, "no bound of Envoy's histograms"),
        ({"preset": "canary", "labels": True}, "'accuracy' is not counted"),
        ({"workload": "dogs", "preset": "canary", "target": {"httpRoute": "pills"}}, "no ladder of limits"),
        ({"steps": [{"weight": 50}, {"weight": 10}]}, "weights fall"),
        ({"steps": [{"wieght": 50}]}, "wieght"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason_before_anything_changes(api, operator, changes, why):
    given = {**SPEC, **changes}
    if "preset" in changes:
        del given["metrics"], given["steps"]
    api.put(PLACE, {"kind": "ModelRollout", "metadata": {"name": "next"}, "spec": given})
    before = json.dumps(api.get("httproutes/pills")["spec"])
    operator.turn()
    refused = operator.condition("Accepted")
    assert refused["status"] == "False" and why in refused["message"]
    assert json.dumps(api.get("httproutes/pills")["spec"]) == before and not api.has(f"inferenceservices/{NEW}")


def test_a_route_that_is_not_there_yet_is_waited_for(api, operator):
    route = api.objects.pop(f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes/pills")
    operator.apply()
    operator.turn()
    assert operator.condition("Accepted")["status"] == "Unknown"
    api.objects[f"/apis/gateway.networking.k8s.io/v1/namespaces/{NAMESPACE}/httproutes/pills"] = route
    operator.turn()
    assert operator.condition("Accepted")["status"] == "True"


def test_one_operator_holds_the_lease_and_another_takes_over_when_it_ran_out(api):
    now = SimpleNamespace(at=0.0)
    first, second = (Lease(api.kube(), NAMESPACE, holder, lambda: now.at) for holder in ("one", "two"))
    assert first.take() and first.take() and not second.take()
    now.at += 9
    assert second.take() and not first.take()
    second.give_back()
    assert first.take()
    assert api.get(f"leases/{NAME}")["spec"]["leaseTransitions"] >= 2


def test_an_api_server_that_does_not_answer_loses_the_lease_only_after_a_while(api, monkeypatch):
    monkeypatch.setattr(leader, "RENEW", 0.01)
    monkeypatch.setattr(leader, "GIVES_UP", 0.1)
    lost, stop = Event(), Event()

    def refuse(request):
        raise httpx.ConnectError("refused")

    kube = Kube(httpx.Client(base_url="http://api", transport=httpx.MockTransport(refuse)))
    Lease(kube, NAMESPACE, "one").keep(lost.set, stop)
    assert lost.is_set()


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("TITRATE_NAMESPACES", "a,b")
    assert Settings.of_environment().namespaces == ("a", "b")
    monkeypatch.setenv("TITRATE_GATEWAY_STATS_PORT", "no")
    with pytest.raises((UserError, ValueError)):
        Settings.of_environment()
