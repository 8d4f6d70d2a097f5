"""`titrate train` as a user types it."""

import json
import re
from pathlib import Path

from tests.spine_home import titrate, write_digits


def test_training_alone_leaves_weights_and_no_release_and_the_same_command_goes_on(tmp_path: Path) -> None:
    data, home = write_digits(tmp_path / "digits", classes=2), tmp_path / "home"
    words = ("train", "pills", "--data", str(data), "--set=train.images=600", "--set=image_size=32", "--nproc=1")
    done = titrate(home, *words)
    assert done.returncode == 0, done.stderr
    [folder] = re.findall(r"weights +(\S+)", done.stdout)
    assert {"model.safetensors", "curves.json", "train.json"} <= {path.name for path in Path(folder).iterdir()}
    assert titrate(home, "releases").stdout.startswith("nothing is registered")
    again = titrate(home, *words)
    assert "went on at step" in again.stdout
    first, second = (json.loads((Path(found) / "train.json").read_text()) for found in (folder, _folder(again.stdout)))
    assert first["score"] == second["score"] and second["resumed_at"] == first["steps"]
    refused = titrate(home, *words[:-2], "--set=train.epochs=3")
    assert refused.returncode == 2 and "unknown key 'train.epochs'" in refused.stderr


def _folder(text: str) -> str:
    return re.findall(r"weights +(\S+)", text)[0]
