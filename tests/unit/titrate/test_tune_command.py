"""`titrate tune`: what is refused before anything starts, what is shown, what gc leaves alone."""

import json

import pytest
from click.testing import CliRunner

from core.home import Home
from tests.unit.tuning.test_sweep_records import settings
from titrate.cli import main
from titrate.gc import unneeded
from titrate.sweep_display import SweepDisplay
from tuning.records import SWEEP, Journal, Trial


def tune(tmp_path, *words):
    return CliRunner().invoke(main, ["tune", *words, "--home", str(tmp_path / "home")])


@pytest.fixture
def data(tmp_path):
    """A folder, which is looked at only after everything else."""
    (tmp_path / "data").mkdir()
    return str(tmp_path / "data")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pils"], "unknown workload 'pils'; did you mean 'pills'?"),
        (["pills", "--recipe", "resnet19"], "unknown recipe 'resnet19' of 'pills'; did you mean"),
        (["pills", "--trials", "0"], "0 is not in the range x>=1"),
        (["pills", "--budget", "soon"], "write a time such as 90s"),
        (["pills", "--resume", "pills-1"], "there is no sweep 'pills-1'"),
        (["show", "pills-1"], "there is no sweep 'pills-1'"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_written(tmp_path, data, words, message):
    more = [] if words[0] == "show" else ["--data", data]
    done = tune(tmp_path, *words, *more)
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train.rate": {"kind": "uniform", "low": 0.1, "high": 1}}, "unknown key 'train.rate'"),
        ({"train.lr": {"kind": "uniform", "low": 1, "high": 0.1}}, "the range of train.lr, 1.0 to 0.1, is empty"),
        ({"train.lr": {"kind": "unifrom", "low": 1, "high": 2}}, "'unifrom'"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_before_anything_is_written(tmp_path, data, keys, message):
    (tmp_path / "space.json").write_text(json.dumps({"keys": keys}))
    done = tune(tmp_path, "pills", "--data", data, "--space", str(tmp_path / "space.json"))
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "home").exists()


def test_the_terminal_shows_what_runs_first_and_how_many_are_done(tmp_path):
    display = SweepDisplay("s", settings(tmp_path, trials=9), 0.0)
    for number, state in enumerate(("finished", "running", "failed"), 1):
        trial = Trial(number=number, values={"train.lr": 0.1}, state=state, reason="lost" if state == "failed" else "")
        display.show(trial)
    with display._console.capture() as drawn:
        display._console.print(display._draw())
    lines = drawn.get().splitlines()
    assert lines[1].startswith("2") and "running" in lines[1]
    assert "2 of 9 trials" in lines[-1]


def test_what_an_interrupted_sweep_goes_on_from_is_not_collected(tmp_path):
    home = Home(tmp_path)
    (home.work / "train").mkdir(parents=True)
    (home.work / "train" / "checkpoint").write_text("x")
    assert [item.name for item in unneeded(home)] == ["train"]
    folder = home.sweeps / "s"
    folder.mkdir(parents=True)
    (folder / SWEEP).write_text(settings(folder).model_dump_json())
    Journal(folder).write(Trial(number=1, values={"train.lr": 0.1}, state="interrupted"))
    assert unneeded(home) == []
    Journal(folder).write(Trial(number=1, values={"train.lr": 0.1}, state="finished"))
    assert [item.name for item in unneeded(home)] == ["train"]
