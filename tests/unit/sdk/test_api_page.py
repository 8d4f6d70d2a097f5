"""The examples of docs/api.md run as they stand, and its tables say what the code says."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from serving.gateway.problems import Code
from tests.colours import picture

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)$\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [code for kind, code in BLOCKS if kind == "sh"]
PROGRAMS = [code for kind, code in BLOCKS if kind == "python"]


@pytest.fixture
def photographs(tmp_path):
    (tmp_path / "pill.jpg").write_bytes(picture("lime", kind="JPEG"))
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_the_codes_are_those_of_the_gateway():
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [(slug, int(status), title) for slug, status, title in rows] == [(c.slug, *c.value) for c in Code]


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_each_command_gets_a_good_answer(command, service, photographs):
    script = command.replace("http://localhost:8080", service).replace("curl ", "curl --fail-with-body ")
    done = subprocess.run(["bash", "-c", script], cwd=photographs, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    if "predictions" in answer:
        assert answer["predictions"][0]["label"] == "green"
    elif "outputs" in answer:
        assert {row["name"]: row["data"] for row in answer["outputs"]}["label"] == ["blue"]
    else:
        assert answer.get("rows") or answer["models"][0]["workload"] == "pills"


def test_the_program_prints_the_label(service, photographs, monkeypatch, capsys):
    monkeypatch.chdir(photographs)
    (program,) = PROGRAMS
    exec(compile(program.replace("localhost:8080", service.removeprefix("http://")), "api.md", "exec"), {})
    assert capsys.readouterr().out == "green\n"
