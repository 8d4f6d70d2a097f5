"""The laptop's router over a whole stack: the contract, and what only Envoy promises: stickiness, testers, speed."""

import time
from collections import Counter

import httpx
import pytest

from core.slo import Slo
from serving.gateway import envoy_admin
from serving.rollout.observations import Weights
from serving.rollout.presets import preset
from serving.rollout.spec import Routing
from tests.router_contract import Routed, RouterContract, eventually, observed
from tests.stack_home import Colours, until
from titrate.rollouts.router import EnvoyRouter
from titrate.rollouts.servers import StackServers
from titrate.stack.control import down, up
from titrate.stack.ports import home_ports
from titrate.stack.state import set_stable

ROUTING = Routing(sticky_header="x-user")


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    one = Colours(tmp_path_factory.mktemp("router"))
    set_stable(one.home, "pills", one.releases[0])
    up(one.home)
    yield one
    down(one.home)


@pytest.fixture(scope="module")
def routed(colours):
    stable, candidate = colours.releases
    servers = StackServers(colours.home, "pills")
    servers.start(candidate)
    until(lambda: servers.report(candidate).ready)
    until(lambda: attempts(colours, candidate) is not None)  # Envoy knows its arm
    spec = preset("canary", workload="pills", stable=stable, candidate=candidate, slo=Slo.load("pills"))
    spec = spec.model_copy(update={"routing": ROUTING})
    with httpx.Client(timeout=60) as client:

        def send(number):
            answers = [colours.ask(client) for _ in range(number)]
            assert {code for code, *_ in answers} == {200}
            return Counter(release for _, release, _ in answers)

        yield Routed(
            router=EnvoyRouter(colours.home, "pills", ROUTING),
            spec=spec,
            again=lambda: EnvoyRouter(colours.home, "pills", ROUTING),
            send=send,
            copies=lambda: attempts(colours, candidate),
            refused={
                "baseline": spec.model_copy(update={"baseline": True}),
                "the nearest is 1000": spec.model_copy(update={"slow_ms": 1100.0}),
                "not bbbb": spec.model_copy(update={"stable": "b" * 64}),
            },
        )


def attempts(colours, release):
    """What the server of a release answered through its arm as candidate."""
    name = f"rest-pills-candidate-{release[:12]}"
    found = [one for one in envoy_admin.attempts(home_ports(colours.home).admin) if one.cluster == name]
    return found[0].answered if found else None


class TestEnvoy(RouterContract): ...


def test_a_change_is_in_live_traffic_within_200_ms(routed):
    """From `apply` to the first answer by the new shares, 20 changes; the median, for a busy machine may pause."""
    delays = []
    for turn in range(20):
        arm = ("candidate", "stable")[turn % 2]
        release = getattr(routed.spec, arm)
        began = time.monotonic()
        routed.router.apply(
            Weights(stable=0, candidate=100) if arm == "candidate" else Weights(stable=100, candidate=0)
        )
        eventually(lambda release=release: set(routed.send(1)) == {release}, 5)
        delays.append(time.monotonic() - began)
        eventually(lambda release=release: set(routed.send(3)) == {release}, 5)
    delays.sort()
    print(f"weight change to live traffic: median {delays[10] * 1e3:.0f} ms, worst {delays[-1] * 1e3:.0f} ms")
    assert delays[len(delays) // 2] < 0.2
    observed(routed, Weights(stable=100, candidate=0), 0)


def test_users_stay_in_their_arm_and_raising_the_weight_moves_them_one_way(colours, routed):
    users = [f"user-{number}" for number in range(60)]
    arms = []
    with httpx.Client(timeout=60) as client:
        for percent in (20, 50, 80):
            routed.router.apply(weights := Weights(stable=100 - percent, candidate=percent))
            observed(routed, weights, 0)
            found = {user: {colours.ask(client, {"x-user": user})[1] for _ in range(3)} for user in users}
            assert all(len(releases) == 1 for releases in found.values()), "each user stays in one arm"
            arms.append({user for user, releases in found.items() if releases == {routed.spec.candidate}})
    assert arms[0] < arms[1] < arms[2]
    assert 2 <= len(arms[0]) <= 28
    routed.router.apply(Weights(stable=100, candidate=0))
    observed(routed, Weights(stable=100, candidate=0), 0)


@pytest.mark.parametrize("where", ["header", "cookie"])
def test_testers_reach_an_arm_and_are_no_evidence(colours, routed, where):
    before = attempts(colours, routed.spec.candidate)
    for arm in ("candidate", "stable"):
        headers = {"x-titrate-arm": arm} if where == "header" else {"cookie": f"a=b; x-titrate-arm={arm}"}
        with httpx.Client(timeout=60) as client:
            answers = {colours.ask(client, headers)[1] for _ in range(5)}
        assert answers == {getattr(routed.spec, arm)}
    assert attempts(colours, routed.spec.candidate) == before
