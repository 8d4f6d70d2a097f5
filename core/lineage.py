"""Where a release comes from: data, code, environment, configuration, parents (T05)."""

import subprocess
import sysconfig
from datetime import datetime
from pathlib import Path

from core.config import Config, canonical_json
from core.files import sha256_bytes


class Lineage(Config):
    """Everything needed to make the release again."""

    run: str
    workload: str
    dataset: str
    """Digest of the dataset with its splits."""
    config: str
    """Digest of the run configuration."""
    code: str
    """Git commit, with `+dirty` when files differ from it; `unknown` outside a checkout."""
    environment: str
    """Digest of the installed distributions and their versions."""
    seed: int
    parents: tuple[str, ...] = ()
    """Digests of the releases that this one started from."""
    created_at: datetime


def code_version() -> str:
    """The git commit of the installed code."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)  # nosec
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def environment_digest() -> str:
    """SHA-256 (hex) of the sorted `name-version` of everything installed beside the interpreter.

    Not of what `sys.path` shows: importing setuptools adds the packages that it carries inside to that. The names of
    folders say it (PyPA, "Recording installed projects"): reading what is in them takes half a second.
    """
    places = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    found = {folder.stem for place in places for folder in Path(place).glob("*.dist-info")}
    return sha256_bytes(canonical_json(sorted(found)).encode())
