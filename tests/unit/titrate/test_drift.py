"""`titrate drift status` over the real store of the feedback service and a release's own reference."""

import pytest
from click.testing import CliRunner

from core.errors import UserError
from core.home import Home
from core.verdict import Outcome
from titrate.cli import main
from titrate.drift import status


def test_inputs_like_the_reference_are_quiet(served):
    served.send(200)
    found = status(served.home, "pills")
    assert [one.verdict.outcome for one in found.findings] == [Outcome.PASS, Outcome.PASS]
    assert (found.events, found.score) == (200, 0.0)
    assert "nothing moved" in found.said


def test_darker_images_are_named_by_what_moved(served):
    served.send(200, brightness=-3)
    found = status(served.home, "pills")
    assert found.findings[0].verdict.outcome is Outcome.FAIL
    assert next(iter(found.findings[0].attribution)) == "brightness"
    assert found.score > found.retrain
    assert found.findings[1].verdict.outcome is Outcome.PASS
    assert "the images look different" in found.said and "above 0.3" in found.said


def test_another_mix_of_answers_is_told_apart_from_other_images(served):
    served.send(200, blue=0.95)
    found = status(served.home, "pills")
    assert [one.verdict.outcome for one in found.findings] == [Outcome.PASS, Outcome.FAIL]
    assert "the mix of answers is another one" in found.said


def test_what_the_window_leaves_out_is_not_counted(served):
    served.send(200)
    served.send(200, brightness=-3, hours_ago=30)
    served.send(200, brightness=-3, arm="candidate")
    served.send(200, brightness=-3, release="e" * 64)
    assert status(served.home, "pills").score == 0.0
    assert status(served.home, "pills", hours=48).events == 400


def test_few_events_conclude_nothing(served):
    served.send(40, brightness=-3)
    found = status(served.home, "pills")
    assert found.score is None
    assert found.said.startswith("inconclusive: 40 complete events of 40")


def test_what_is_missing_is_named(served, tmp_path):
    (served.home.root / "events.db").unlink()
    with pytest.raises(UserError, match="there are no events"):
        status(served.home, "pills")
    with pytest.raises(UserError, match="no release of 'pills' serves"):
        status(Home(tmp_path / "other"), "pills")


def test_the_command_prints_a_table_and_the_word(served):
    served.send(200, brightness=-3)
    done = CliRunner().invoke(main, ["drift", "status", "--home", str(served.home.root)])
    assert done.exit_code == 0, done.output
    assert "200 events of the last 24 h" in done.output
    assert "brightness" in done.output and "drift score" in done.output
