"""The command line as users see it."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from titrate.cli import main

FROZEN = Path(__file__).with_name("commands.json")


def _commands(group: click.Group, prefix: str = "") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, command in sorted(group.commands.items()):
        options = sorted(parameter.opts[-1] for parameter in command.params)
        found[f"{prefix}{name}"] = options
        if isinstance(command, click.Group):
            found |= _commands(command, f"{prefix}{name} ")
    return found


def test_commands_and_options_are_the_agreed_ones() -> None:
    """A change of the command line is a decision: change commands.json with it."""
    assert _commands(main) == json.loads(FROZEN.read_text())


@pytest.mark.parametrize("command", sorted(json.loads(FROZEN.read_text())))
def test_every_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(main, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_help_is_fast() -> None:
    """Under 0.4 s of processor time: nothing heavy is imported before it is needed."""
    times = []
    users = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # not measured: slower
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "titrate.cli", "--help"], check=True, capture_output=True, env=users)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.4, times


def test_help_imports_no_engine() -> None:
    code = (
        "import sys, titrate.cli; print([m for m in ('torch','mlflow','kfp','numpy','pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_missing_data_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    words = ["run", "pills", "--data", str(tmp_path / "none"), "--home", str(tmp_path / "home")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "is not there" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "pils"], "unknown workload 'pils'; did you mean 'pills'?"),
        (["run", "pills", "--recipe", "resnet19"], "unknown recipe 'resnet19' of 'pills'; did you mean"),
        (["run", "pills", "--set", "train.epoch=3"], "unknown key 'train.epoch'; did you mean"),
        (["run", "pills", "--set", "trian.lr=3"], "unknown key 'trian.lr'; did you mean 'train'?"),
        (["run", "pills", "--set", "train.lr"], "write KEY=VALUE"),
        (["run", "pills", "--set", "train.lr=-1"], "train.lr = -1"),
    ],
)
def test_wrong_words_get_the_nearest_right_one(tmp_path: Path, words: list[str], message: str) -> None:
    result = CliRunner().invoke(main, [*words, "--data", str(tmp_path), "--home", str(tmp_path / "home")])
    assert result.exit_code == 2
    assert message in result.output


def test_configuration_file_and_recipe_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text("{}")
    words = ["run", "pills", "--data", str(tmp_path), "--recipe", "resnet18", "--config", str(tmp_path / "best.json")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "exclude each other" in result.output


def test_empty_home_is_no_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["runs", "--home", str(tmp_path)])
    assert result.exit_code == 0
    assert "no runs yet" in result.output
