"""The contract of a router, kept by the world that the simulations run in."""

import contextlib
from collections import Counter

import pytest

from serving.rollout.spec import FULL
from tests.router_contract import Routed, RouterContract
from tests.unit.serving.rollout.world import CANDIDATE, STABLE, World, broken, quick_spec


class Split(World):
    """The world with single requests."""

    copied = 0

    def send(self, number):
        """So many requests, by release."""
        shares = [self.weights.stable / FULL, self.weights.candidate / FULL]
        stable, candidate = self.rng.multinomial(number, shares)
        self.copied += int(candidate + self.rng.binomial(stable, self.mirrored / FULL))
        return Counter({self.arms["stable"]: int(stable)}) + Counter({self.arms["candidate"]: int(candidate)})

    @contextlib.contextmanager
    def half_way(self):
        """Promotions fail after the arms have changed their names."""
        self.failing["promote, second half"] = broken("the router")
        yield
        del self.failing["promote, second half"]


@pytest.fixture(scope="module")
def routed():
    world = Split()
    world.start(CANDIDATE)
    return Routed(
        router=world,
        spec=quick_spec(stable=STABLE),
        again=lambda: world,
        send=world.send,
        copies=lambda: world.copied,
        half_way=world.half_way,
    )


class TestWorld(RouterContract): ...
