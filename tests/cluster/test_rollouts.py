"""ModelRollouts under load over real InferenceServices: one is promoted, one rolled back, one deleted half-way."""

import json
import time

import pytest

from tests.cluster.conftest import Load

pytestmark = pytest.mark.cluster
OPERATOR = "app.kubernetes.io/name=titrate-operator"
ROUTES = {"apiGroups": ["gateway.networking.k8s.io"], "resources": ["httproutes", "grpcroutes"]}


def rollout(name, candidate):
    """Small steps: what matters here is the way, not the statistics."""
    steps = [
        {"weight": weight, "bakeSeconds": 4, "minRequests": 30, "deadlineSeconds": 240} for weight in (20, 50, 100)
    ]
    metrics = [{"kind": "compared", "name": "errors", "margin": 0.1, "limit": 0.2}]
    checks = [{"name": "warm-up", "kind": "warm_up", "requests": 3}, {"name": "smoke", "kind": "smoke", "requests": 2}]
    spec = {"workload": "pills", "candidate": candidate, "steps": steps, "metrics": metrics, "checks": checks}
    return {"apiVersion": "titrate.dev/v1alpha1", "kind": "ModelRollout", "metadata": {"name": name}, "spec": spec}


class Rollout:
    """One ModelRollout, applied."""

    def __init__(self, cluster, name, candidate):
        self.cluster, self.name, self.candidate = cluster, name, candidate
        cluster.kubectl("apply", "-f", "-", text=json.dumps(rollout(name, candidate)))
        began = time.monotonic()
        self.until(lambda shown: shown.get("conditions"), "the operator says something", 60)
        print(f"{name}: first word of the operator {time.monotonic() - began:.1f} s after kubectl apply")

    @property
    def status(self):
        return self.cluster.get("modelrollout", self.name).get("status", {})

    def until(self, condition, what, seconds=150.0):
        """The status when it is so; what the operator said when it does not come."""
        try:
            return self.cluster.until(lambda: (shown := self.status) and condition(shown) and shown, what, seconds)
        except AssertionError as error:
            log = self.cluster.kubectl("logs", "-l", OPERATOR, "--tail=20", check=False)
            raise AssertionError(f"{error}\n{json.dumps(self.status, indent=1)}\n{log}") from error

    def condition(self, kind):
        return next((c for c in self.status.get("conditions", []) if c["type"] == kind), None)

    def delete(self):
        self.cluster.kubectl("delete", "modelrollout", self.name, "--wait=true", "--timeout=90s")


@pytest.fixture(scope="module")
def served(cluster):
    """The operator runs and clients are answered; their load goes on through all tests of this module."""
    cluster.kubectl("rollout", "status", "deployment/titrate-operator", "--timeout=90s")
    with Load(f"http://{cluster.gateway()}/v2/models/pills/infer", threads=2, pause=0.05) as load:
        cluster.until(lambda: load.by_release().total() > 20, "clients are answered")
        load.forget()
        yield load


def test_a_good_candidate_is_promoted_though_the_operator_is_killed_on_the_way(cluster, served, release, candidates):
    good = Rollout(cluster, "good", candidates["good"].digest)
    before = good.until(lambda shown: shown.get("observedWeight", 0) > 0, "the candidate has traffic")
    other = Rollout(cluster, "other", candidates["better"].digest)
    refused = other.condition("Accepted")
    assert refused["status"] == "False" and "'good' already moves the traffic of 'pills'" in refused["message"]
    other.delete()
    cluster.kubectl("delete", "pod", "-l", OPERATOR, "--grace-period=0", "--force")
    after = good.until(lambda shown: shown["phase"] == "promoted", "it is promoted")
    assert after["rollout"] == before["rollout"] and after["stable"] == release.digest
    assert not served.lost(), served.texts
    served.forget()
    cluster.until(lambda: served.total > 50, "more requests")
    assert set(served.by_release()) == {candidates["good"].digest}
    good.delete()


def test_a_failing_candidate_is_rolled_back_and_removed(cluster, served, candidates):
    served.forget()
    failing = Rollout(cluster, "failing", candidates["failing"].digest)
    shown = failing.until(lambda shown: shown["phase"] == "rolled_back", "it is rolled back")
    assert "errors" in shown["reason"], shown
    print(f"failing: {served.total} requests, {dict(served.answers)}")
    assert not served.lost(), served.texts
    cluster.until(
        lambda: not cluster.kubectl("get", "pods", "-l", f"titrate.dev/release={failing.candidate[:63]}", "-o", "name"),
        "the candidate's server is gone",
    )
    failing.delete()


def test_a_missing_permission_is_named_and_a_deletion_restores_stable(cluster, served, candidates):
    served.forget()
    rules = cluster.get("clusterrole", "titrate-operator")["rules"]
    without = [rule for rule in rules if rule["resources"] != ROUTES["resources"]]
    less = [*without, {**ROUTES, "verbs": ["get"]}]
    cluster.kubectl("patch", "clusterrole", "titrate-operator", "--type=merge", "-p", json.dumps({"rules": less}))
    try:
        better = Rollout(cluster, "better", candidates["better"].digest)
        better.until(
            lambda _: (better.condition("Permitted") or {}).get("status") == "False", "it says what it may not"
        )
        assert 'cannot update resource "httproutes"' in better.condition("Permitted")["message"]
    finally:
        cluster.kubectl("patch", "clusterrole", "titrate-operator", "--type=merge", "-p", json.dumps({"rules": rules}))
    cluster.until(lambda: served.by_release()[better.candidate], "the candidate answers")
    better.delete()
    served.forget()
    cluster.until(lambda: served.total > 50, "more requests")
    assert set(served.by_release()) == {candidates["good"].digest}
    assert not served.lost(), served.texts
