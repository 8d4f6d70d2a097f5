"""What is registered, who serves it, and whether it is what was signed."""

from datetime import datetime

from components.register.registry import Registered, Registry
from core.config import Config
from core.errors import PermanentError
from core.home import Home
from core.objects import Store
from core.release import verify
from core.signing import PUBLIC_KEY
from titrate.stack.state import serving


class ReleaseRow(Config):
    """One line of `titrate releases`."""

    workload: str
    version: int
    digest: str
    aliases: tuple[str, ...]
    serving: bool
    """The stack serves it when it is up."""
    accuracy: str
    created_at: datetime


def releases(home: Home) -> list[ReleaseRow]:
    """All registered releases, newest first within a workload; without a registry: none."""
    if not (home.root / "mlflow.db").exists():
        return []
    registry = Registry(home.registry)
    served = serving(home)
    return [_row(found, served) for workload in registry.workloads() for found in registry.releases(workload)]


def _row(found: Registered, served: dict[str, str]) -> ReleaseRow:
    return ReleaseRow(
        workload=found.workload,
        version=found.version,
        digest=found.digest,
        aliases=found.aliases,
        serving=served.get(found.workload) == found.digest,
        accuracy=found.tags.get("accuracy", ""),
        created_at=found.created_at,
    )


def show(home: Home, name: str) -> str:
    """Card, lineage and state of the signature of one release, as text."""
    found = Registry(home.registry).find(name)
    folder = home.releases / found.digest
    if not folder.exists():
        Store(str(home.objects)).fetch(f"releases/{found.digest}", folder)
    try:
        verify(folder, found.digest, home.keys / PUBLIC_KEY)
        signature = "verifies"
    except PermanentError as error:
        signature = f"DOES NOT VERIFY: {error}"
    aliases = ", ".join(found.aliases) or "none"
    head = (
        f"release    {found.digest}",
        f"registered {found.workload}:{found.version}, aliases: {aliases}",
        f"signature  {signature}",
    )
    return "\n\n".join(("\n".join(head), (folder / "card.md").read_text(), (folder / "lineage.json").read_text()))
