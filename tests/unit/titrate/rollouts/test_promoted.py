"""The watch over a promoted release (R05): it gives way when it breaks the ladder, and not for noise."""

import numpy as np
import pytest

from core.home import Home
from core.slo import Slo
from serving.rollout.metrics import ACCURACY, SLOW
from titrate.rollouts import promoted
from titrate.rollouts.promoted import RUN_LENGTH, Watch, monitor
from titrate.stack.state import Serving, change

NOW, FORMER = "a" * 64, "b" * 64


class Counted:
    """Cumulative counts of the stable arm, and Envoy's life."""

    def __init__(self):
        self.slow, self.labels, self.life = [0, 0], [0, 0], "1"

    def of(self, workload, release, name, slow_ms):
        assert (workload, release, name, slow_ms) == ("pills", NOW, "stable", Slo.load("pills").latency.p99_ms)
        return {SLOW: tuple(self.slow)}

    def incarnation(self):
        return self.life

    def answered(self, workload, release, since):
        return tuple(self.labels), sum(self.labels)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """(a function that makes the watch anew, the counts, what was rolled back)."""
    home, counts, gone = Home(tmp_path), Counted(), []
    change(home, lambda _: Serving(stable={"pills": NOW}, kept={"pills": FORMER}))
    monkeypatch.setattr(promoted, "roll_back", lambda *args, **more: (gone.append((args, more)), (FORMER, NOW))[1])
    monkeypatch.setattr(promoted, "EdgeCounts", lambda _: counts)
    monkeypatch.setattr(promoted, "EventCounts", lambda _: counts)
    return lambda: Watch(home, seconds=1.0), counts, gone


def run(watch, counts, slow, wrong, updates, gone):
    """Updates with 100 answers and 20 labels each; the number until it gave way, or None."""
    rng = np.random.default_rng(3)
    for number in range(1, updates + 1):
        bad, mistakes = rng.binomial(100, slow), rng.binomial(20, wrong)
        counts.slow = [counts.slow[0] + bad, counts.slow[1] + 100 - bad]
        counts.labels = [counts.labels[0] + mistakes, counts.labels[1] + 20 - mistakes]
        watch.turn(float(number), set())
        if gone:
            return number
    return None


def test_a_release_at_its_limits_stays(watched):
    make, counts, gone = watched
    assert run(make(), counts, 0.045, 0.14, 500, gone) is None


@pytest.mark.parametrize(("slow", "wrong"), [(0.15, 0.05), (0.01, 0.30)])
def test_one_that_breaks_them_gives_way_soon_also_after_a_long_good_time(watched, slow, wrong):
    make, counts, gone = watched
    watch = make()
    assert run(watch, counts, 0.01, 0.05, 300, gone) is None
    watch._due = 0.0
    assert run(watch, counts, slow, wrong, 60, gone) is not None
    (_, workload, why), more = gone[0]
    assert workload == "pills"
    assert "nats" in why
    assert more == {"keep": False}, "a release that failed is no way back"


def test_the_evidence_survives_a_restart_and_envoys_is_counted_anew(watched):
    make, counts, gone = watched
    counts.slow = [0, 1000]
    make().turn(1.0, set())
    counts.slow, counts.life = [400, 100], "2"
    make().turn(1.0, set())
    assert gone, "400 slow answers of 500 since Envoy's start, against what was noted before"


def test_nothing_is_watched_while_a_rollout_goes_on(watched):
    make, counts, gone = watched
    make().turn(1.0, {"pills"})
    counts.slow = [1000, 0]
    make().turn(1.0, {"pills"})
    assert not gone


def test_the_promise_is_one_false_alarm_in_ten_years():
    asked = monitor(Slo.load("pills"))
    assert asked.repeating
    assert 1 / asked.alpha == RUN_LENGTH == pytest.approx(31_536_000)
    assert {limit.name: limit.rate for limit in asked.limits} == {SLOW: 0.05, ACCURACY: 0.15}
