"""What no alias, run or rollout needs any more, and its removal."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from components.register.registry import Registered, Registry
from core.config import Config
from core.home import Home
from core.objects import Store
from titrate.run import runs
from titrate.stack.state import supervisor_pid, wanted
from tuning.records import SWEEP, Journal

KEPT_RUNS = 5
"""Newest finished runs whose pipeline artefacts stay for inspection."""


class Unneeded(Config):
    """One thing that can go."""

    kind: str
    name: str
    path: str
    bytes: int
    why: str


def unneeded(home: Home) -> list[Unneeded]:
    """Everything that can be removed without losing what serves, asks to, or is being worked on."""
    return [*_releases(home), *_folders(home), *_artefacts(home), *_drafts(home)]


def collect(home: Home, found: list[Unneeded]) -> None:
    """Remove what `unneeded` listed; a release leaves the registry first, so that nothing points to a missing one."""
    registry = Registry(home.registry)
    store = Store(str(home.objects))
    for item in found:
        if item.kind == "release":
            for release in _registered(registry):
                if release.digest == item.name:
                    registry.delete(release)
            store.remove(f"releases/{item.name}")
        path = Path(item.path)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _registered(registry: Registry) -> list[Registered]:
    return [found for workload in registry.workloads() for found in registry.releases(workload)]


def _needed_releases(home: Home) -> set[str]:
    named = {found.digest for found in _registered(Registry(home.registry)) if found.aliases}
    now = wanted(home)
    asking = {candidate.release for candidate in now.candidates.values()}
    return named | asking | set(now.stable.values()) | set(now.kept.values())


def _releases(home: Home) -> Iterator[Unneeded]:
    if not (home.root / "mlflow.db").exists():
        return
    needed = _needed_releases(home)
    published = set(Store(str(home.objects)).names("releases"))
    fetched = {path.name for path in home.releases.glob("*") if path.is_dir() and not path.name.startswith(".")}
    for digest in sorted((published | fetched) - needed):
        size = _size(home.objects / "releases" / digest) + _size(home.releases / digest)
        path = str(home.releases / digest)
        yield Unneeded(kind="release", name=digest, path=path, bytes=size, why="no alias names it, nothing serves it")


def _folders(home: Home) -> Iterator[Unneeded]:
    """Caches and checkpoints, unless a run or a sweep is unfinished or the stack uses them."""
    if supervisor_pid(home) or _unfinished(home):
        return
    for kind, root, why in (
        ("checkpoints", home.work, "no run or sweep is unfinished"),
        ("cache", home.cache, "is made again when needed"),
    ):
        for path in sorted(root.glob("*")):
            yield Unneeded(kind=kind, name=path.name, path=str(path), bytes=_size(path), why=why)


def _artefacts(home: Home) -> Iterator[Unneeded]:
    ended = [record for record in runs(home) if record.status != "running"]
    for record in ended[KEPT_RUNS:]:
        path = home.runs / record.id / "pipeline"
        if path.exists():
            why = f"older than the newest {KEPT_RUNS} runs; its record and report stay"
            yield Unneeded(kind="artefacts", name=record.id, path=str(path), bytes=_size(path), why=why)


def _drafts(home: Home) -> Iterator[Unneeded]:
    """What killed processes left: drafts of folders and files, while nothing runs."""
    if _unfinished(home) or not home.root.exists():
        return
    for path in sorted(home.root.rglob(".*.draft")):
        yield Unneeded(kind="draft", name=path.name, path=str(path), bytes=_size(path), why="its writer was killed")


def _unfinished(home: Home) -> bool:
    """Whether a run or a sweep is going on, or can go on."""
    journals = (Journal(path.parent) for path in home.sweeps.glob(f"*/{SWEEP}"))
    return any(record.status == "running" for record in runs(home)) or any(
        journal.in_state("running", "interrupted") for journal in journals
    )


def _size(path: Path) -> int:
    """Bytes below `path`; 0 when it is not there."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
